"""Webhook deliveries as operators handle them: seen, tested, enabled, replayed. For the command line and the gateway.

All of it works on Redis alone; the dispatcher takes up within a second what is put there. Every function takes a client
of `publisher.connect` and may raise `RedisError` and `OSError`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from nvision_hub import events
from nvision_hub.broker import delivery_queue
from nvision_hub.broker.delivery_queue import WAITING_MAX, WHATEVER_THE_STATE, Keys, Waiting, dead_letters_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    import redis.asyncio

    from nvision_hub.broker.webhook_filter import WebhookFilter

_PAGE: Final = 200

_Entry = tuple[bytes, dict[bytes, bytes]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """What a replay has put into the queue.

    A queue holds so many and no more: `rest_from` is when the first that found no room was published, for another
    replay once there is some; None where all found room.
    """

    queued: int
    rest_from: datetime | None = None


async def listing(client: redis.asyncio.Redis, prefix: str, webhooks: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of these webhooks, as their dispatcher last left them; those that never ran have none."""
    rows = []
    for webhook in webhooks:
        keys = Keys(prefix=prefix, webhook=webhook)
        row: Any = await client.hget(keys.state, "row")
        if row is not None:
            rows.append(json.loads(row))
    return rows


async def test(client: redis.asyncio.Redis, prefix: str, webhook: str, *, site: str) -> str:
    """Have a made-up event delivered once, whatever the filters and whether or not it is disabled; its webhook-id.

    It is marked as one: `hub.test` is true. What became of it is in the webhook's row.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    own_id = events.new_id()
    box = {"left": 10, "top": 20, "right": 110, "bottom": 220}
    event = {
        "service_id": "test",
        "source_id": "test",
        "frame_id": own_id,
        "detected_objects": [{"name": "person", "parent": "human", "confidence": 1.0, "bounding_box": box}],
        "hub": {
            "id": own_id,
            "site": site,
            "camera": "test",
            "labels": {},
            "service": "object-detection",
            "via": "test",
            "test": True,
            "captured_at": None,
            "sent_at": now,
            "received_at": now,
            "width": 1280,
            "height": 720,
            "jpeg_bytes": 0,
            "sequence": 1,
        },
    }
    waiting = Waiting(id=own_id, body=events.encode(event), once=True)
    async with client.pipeline(transaction=True) as pipe:
        delivery_queue.put(pipe, Keys(prefix=prefix, webhook=webhook), waiting, due=WHATEVER_THE_STATE)
        await pipe.execute()
    return own_id


async def enable(client: redis.asyncio.Redis, prefix: str, webhook: str) -> bool:
    """Deliver again to a webhook that answered 410, from where that stopped it; False where it was not disabled."""
    return bool(await client.hdel(Keys(prefix=prefix, webhook=webhook).state, "disabled"))


async def replay(
    client: redis.asyncio.Redis, prefix: str, webhook: str, *, wanted: WebhookFilter, since: datetime
) -> Replayed:
    """Have all results since then that the webhook wants delivered to it again, with the ids they had.

    Those that left the stream are not among them.
    """
    keys = Keys(prefix=prefix, webhook=webhook)
    room = WAITING_MAX - await client.zcard(keys.due)
    queued = 0
    async for page in _pages(client, keys.results, f"{max(0, int(since.timestamp() * 1000))}-0"):
        chosen: list[tuple[bytes, Waiting]] = []
        for entry, fields in page:
            waiting = _wanted(wanted, fields)
            if waiting is not None:
                chosen.append((entry, waiting))
        fit, rest = chosen[: room - queued], chosen[max(0, room - queued) :]
        queued += await _queue(client, keys, [waiting for _, waiting in fit])
        if rest:
            return Replayed(queued=queued, rest_from=_when(rest[0][0]))
    return Replayed(queued=queued)


def _wanted(wanted: WebhookFilter, fields: dict[bytes, bytes]) -> Waiting | None:
    try:
        found = wanted.apply(fields[b"camera"].decode(), fields[b"event"])
    except (KeyError, ValueError):
        return None
    return None if found is None else Waiting(id=found.id, body=found.body)


async def replay_dead(client: redis.asyncio.Redis, prefix: str, webhook: str) -> Replayed:
    """Take the webhook's deliveries out of the dead letters and try them again, with the ids they had."""
    keys = Keys(prefix=prefix, webhook=webhook)
    room = WAITING_MAX - await client.zcard(keys.due)
    queued = 0
    async for page in _pages(client, keys.dead, "-"):
        own = [(entry, fields) for entry, fields in page if fields.get(b"webhook") == webhook.encode()]
        fit, rest = own[: room - queued], own[max(0, room - queued) :]
        letters = [Waiting(id=_letter_id(entry, fields), body=fields[b"event"]) for entry, fields in fit]
        queued += await _queue(client, keys, letters, leaving=[entry for entry, _ in fit])
        if rest:
            return Replayed(queued=queued, rest_from=_when(rest[0][0]))
    return Replayed(queued=queued)


async def dead_letters(
    client: redis.asyncio.Redis, prefix: str, webhook: str | None = None, *, limit: int = 100
) -> list[dict[str, Any]]:
    """Deliveries given up on, newest first, of one webhook or of all.

    Each has `webhook`, `id` (the webhook-id), `at` (when it was given up), `reason`, `attempts` and `event`.
    """
    found: list[dict[str, Any]] = []
    newest = "+"
    while len(found) < limit:
        page: Any = await client.xrevrange(dead_letters_key(prefix), max=newest, min="-", count=_PAGE)
        found += [_letter(entry, fields) for entry, fields in page if webhook in {None, _text(fields.get(b"webhook"))}]
        if len(page) < _PAGE:
            break
        newest = f"({page[-1][0].decode()}"
    return found[:limit]


async def _pages(client: redis.asyncio.Redis, stream: str, start: str) -> AsyncIterator[Sequence[_Entry]]:
    while True:
        page: Any = await client.xrange(stream, min=start, max="+", count=_PAGE)
        yield page
        if len(page) < _PAGE:
            return
        start = f"({page[-1][0].decode()}"


async def _queue(
    client: redis.asyncio.Redis, keys: Keys, deliveries: Sequence[Waiting], *, leaving: Sequence[bytes] = ()
) -> int:
    """Put these into the queue, due now; how many were not there already. `leaving` are their dead letters."""
    if not deliveries:
        return 0
    now = time.time()
    async with client.pipeline(transaction=True) as pipe:
        for waiting in deliveries:
            delivery_queue.put_new(pipe, keys, waiting, due=now)
        if leaving:
            pipe.xdel(keys.dead, *leaving)
        answers = await pipe.execute()
    return sum(answers[: 2 * len(deliveries) : 2])


def _letter(entry: bytes, fields: dict[bytes, bytes]) -> dict[str, Any]:
    try:
        event = json.loads(fields.get(b"event", b""))
    except ValueError:
        event = None
    attempts = _text(fields.get(b"attempts"))
    return {
        "webhook": _text(fields.get(b"webhook")),
        "id": _letter_id(entry, fields),
        "at": _when(entry).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "reason": _text(fields.get(b"reason")),
        "attempts": int(attempts) if attempts.isdecimal() else 0,
        "event": event,
    }


def _letter_id(entry: bytes, fields: dict[bytes, bytes]) -> str:
    return _text(fields.get(b"id", entry))


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")


def _when(entry: bytes) -> datetime:
    """When an entry was added to its stream, by Redis' clock."""
    return datetime.fromtimestamp(int(entry.partition(b"-")[0]) / 1000, UTC)
