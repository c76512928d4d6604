"""Operator actions on webhook deliveries: test, enable, replay and dead letters, for the CLI and the gateway.

These actions change only Redis. The dispatcher reads the changes within two seconds. Every function needs a client from
`broker.client.connect` and may raise `RedisError` or `OSError`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.broker import webhook_queue
from nvision_hub.broker.webhook_queue import (
    DUE_IN_ANY_STATE,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    PLAIN_ID,
    Delivery,
    WebhookKeys,
    dead_letters_key,
)
from nvision_hub.nvision import result_events
from nvision_hub.nvision.received_events import ReceivedResult, parse_object
from nvision_hub.timestamps import iso_utc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    import redis.asyncio

    from nvision_hub.broker.webhook_filter import WebhookFilter

_MAX_DIGITS: Final = 10
_PAGE: Final = 50  # a result may be large

_LAST_TIME: Final = datetime.max.replace(tzinfo=UTC).timestamp() - 1

_Fields = dict[bytes, bytes]
_Entry = tuple[bytes, _Fields]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayResult:
    """Outcome of a replay into a webhook's bounded queue.

    `rest_from` is the time at which the first entry that did not fit was added to its stream; None if all entries fit.
    Start another replay from this time once the queue has room.
    """

    queued: int
    rest_from: datetime | None


async def test(client: redis.asyncio.Redis, prefix: str, webhook: str, *, site: str) -> str:
    """Queue a test event for one delivery attempt, and return its webhook-id.

    The event has `hub.test: true`. The dispatcher sends it even if the webhook is disabled or its filter does not
    match, and shows the outcome in the webhook's `row`.
    """
    now = time.time()
    event_id = result_events.new_id(now)
    box = {"left": 10, "top": 20, "right": 110, "bottom": 220}
    person = {"name": "person", "parent": "human", "confidence": 1.0, "bounding_box": box}
    posted = {"service_id": "test", "source_id": "test", "frame_id": event_id, "detected_objects": [person]}
    origin = result_events.EventOrigin(site=site, camera="test", labels={}, service="object-detection")
    event = result_events.callback_event(posted, origin, received_at=now)
    event["hub"] |= {"via": "test", "test": True, "captured_at": None, "sent_at": iso_utc(now)}
    event["hub"] |= {"width": 1280, "height": 720, "jpeg_bytes": 0, "sequence": 1}
    delivery = Delivery(id=event_id, body=result_events.encode(event), once=True)
    async with client.pipeline(transaction=True) as pipe:
        webhook_queue.put(pipe, WebhookKeys(prefix, webhook), delivery, due=DUE_IN_ANY_STATE)
        await pipe.execute()
    return event_id


async def enable(client: redis.asyncio.Redis, prefix: str, webhook: str) -> bool:
    """Enable a webhook that a 410 response disabled. Return False if the webhook was not disabled."""
    return bool(await client.hdel(WebhookKeys(prefix, webhook).state, "disabled"))


async def replay(
    client: redis.asyncio.Redis, prefix: str, webhook: str, *, wanted: WebhookFilter, since: datetime
) -> ReplayResult:
    """Queue the results from `since` on that are still in the stream and match the filter. Results keep their ids."""

    def choose(_entry: bytes, fields: _Fields) -> Delivery | None:
        try:
            return wanted.apply(fields[b"camera"].decode(), fields[b"event"])
        except (KeyError, ValueError):
            return None

    keys = WebhookKeys(prefix, webhook)
    start = f"{max(0, int(since.timestamp() * 1000))}-0"
    return await _queue_entries(client, keys, _pages(client, keys.results, start), choose)


async def replay_dead(client: redis.asyncio.Redis, prefix: str, webhook: str) -> ReplayResult:
    """Move the webhook's dead letters back to its queue. The events keep their ids."""

    def choose(entry: bytes, fields: _Fields) -> Delivery | None:
        if fields.get(b"webhook") != webhook.encode():
            return None
        delivery_id, body = _text(fields.get(b"id", entry)), fields.get(b"event", b"")
        if not PLAIN_ID.fullmatch(delivery_id):
            return None
        try:
            ReceivedResult.parse(body)
        except ValueError:
            return None  # another program wrote this entry
        return Delivery(id=delivery_id, body=body)

    keys = WebhookKeys(prefix, webhook)
    return await _queue_entries(client, keys, _pages(client, keys.dead, "-"), choose, are_dead=True)


async def dead_letters(
    client: redis.asyncio.Redis, prefix: str, webhook: str | None = None, *, limit: int = 100
) -> list[dict[str, Any]]:
    """Return up to `limit` dead letters of one webhook or of all webhooks, newest first.

    Each dead letter has `webhook`, `id` (the webhook-id), `at` (when it became a dead letter), `reason`, `attempts` and
    `event`.
    """
    found: list[dict[str, Any]] = []
    async for page in _pages(client, dead_letters_key(prefix), "+", newest_first=True):
        found += [_letter(entry, fields) for entry, fields in page if webhook in {None, _text(fields.get(b"webhook"))}]
        if len(found) >= limit:
            break
    return found[:limit]


async def _pages(
    client: redis.asyncio.Redis, stream: str, start: str, *, newest_first: bool = False
) -> AsyncIterator[Sequence[_Entry]]:
    read = client.xrevrange if newest_first else client.xrange
    while True:
        page: Any = await read(stream, start, count=_PAGE)
        yield page
        if len(page) < _PAGE:
            return
        start = f"({page[-1][0].decode()}"


async def _queue_entries(
    client: redis.asyncio.Redis,
    keys: WebhookKeys,
    pages: AsyncIterator[Sequence[_Entry]],
    choose: Callable[[bytes, _Fields], Delivery | None],
    *,
    are_dead: bool = False,
) -> ReplayResult:
    """Queue the chosen entries for immediate delivery, until the queue is full.

    If `are_dead`, also remove each queued entry from the stream of dead letters.
    """
    room = MAX_WAITING - await client.zcard(keys.due)
    room_bytes = MAX_WAITING_BYTES - await webhook_queue.waiting_bytes(client, keys)
    queued = 0
    async for page in pages:
        chosen = [(entry, delivery) for entry, fields in page if (delivery := choose(entry, fields)) is not None]
        sizes = accumulate(len(delivery.body) for _, delivery in chosen)
        free = min(max(0, room - queued), sum(size <= room_bytes for size in sizes))
        fitting, rest = chosen[:free], chosen[free:]
        room_bytes -= sum(len(delivery.body) for _, delivery in fitting)
        if fitting:
            now = time.time()
            async with client.pipeline(transaction=True) as pipe:
                for _, delivery in fitting:
                    webhook_queue.put(pipe, keys, delivery, due=now, only_new=True)
                if are_dead:
                    webhook_queue.remove_dead_letters(pipe, keys, (entry for entry, _ in fitting))
                replies = await pipe.execute()
            queued += sum(replies[: 2 * len(fitting) : 2])  # the first reply of each pair is 1 for a new delivery
        if rest:
            return ReplayResult(queued=queued, rest_from=datetime.fromtimestamp(_added_at(rest[0][0]), UTC))
    return ReplayResult(queued=queued, rest_from=None)


def _letter(entry: bytes, fields: _Fields) -> dict[str, Any]:
    try:
        event = parse_object(fields.get(b"event", b""))
    except ValueError:
        event = None
    attempts = _text(fields.get(b"attempts"))
    return {
        "webhook": _text(fields.get(b"webhook")),
        "id": _text(fields.get(b"id", entry)),
        "at": iso_utc(_added_at(entry)),
        "reason": _text(fields.get(b"reason")),
        "attempts": int(attempts) if attempts.isdecimal() and len(attempts) < _MAX_DIGITS else 0,
        "event": event,
    }


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")


def _added_at(entry: bytes) -> float:
    """Return when an entry was added to its stream, in seconds since the epoch by the clock of Redis."""
    return min(int(entry.partition(b"-")[0]) / 1000, _LAST_TIME)  # another program may have chosen the id
