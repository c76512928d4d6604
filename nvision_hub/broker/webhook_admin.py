"""Operator actions on webhook deliveries: test, enable, replay and dead letters, for the CLI and the gateway.

These actions change only Redis. The dispatcher reads the changes within two seconds. Every function needs a client from
`broker.client.connect` and may raise `RedisError` or `OSError`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
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
from nvision_hub.nvision.received_events import parse_object
from nvision_hub.timestamps import iso_utc
from nvision_hub.tracking.changes import Change, ChangeType, EndReason, FrameRef, PathPoint, TrackState
from nvision_hub.tracking.cloud_events import cloud_event
from nvision_hub.tracking.observation import ObjectBox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    import redis.asyncio

    from nvision_hub.broker.webhook_filter import Stream, WebhookFilter

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


async def test(client: redis.asyncio.Redis, prefix: str, webhook: str, *, site: str, wanted: WebhookFilter) -> str:
    """Queue a test event for one delivery attempt, and return its webhook-id.

    The event is a result with `hub.test: true` or, if the webhook receives no results, an event of a track with the
    label `test`. The dispatcher sends it even if the webhook is disabled or its filter does not match, and shows the
    outcome in the webhook's `row`.
    """
    delivery = _test_result(site) if "results" in wanted.streams else _test_track_event(site, min(wanted.events))
    async with client.pipeline(transaction=True) as pipe:
        webhook_queue.put(pipe, WebhookKeys(prefix, webhook), delivery, due=DUE_IN_ANY_STATE)
        await pipe.execute()
    return delivery.id


def _test_result(site: str) -> Delivery:
    now = time.time()
    event_id = result_events.new_id(now)
    box = {"left": 10, "top": 20, "right": 110, "bottom": 220}
    person = {"name": "person", "parent": "human", "confidence": 1.0, "bounding_box": box}
    posted = {"service_id": "test", "source_id": "test", "frame_id": event_id, "detected_objects": [person]}
    origin = result_events.EventOrigin(site=site, camera="test", labels={}, service="object-detection")
    event = result_events.callback_event(posted, origin, received_at=now)
    event["hub"] |= {"via": "test", "test": True, "captured_at": None, "sent_at": iso_utc(now)}
    event["hub"] |= {"width": 1280, "height": 720, "jpeg_bytes": 0, "sequence": 1}
    return Delivery(id=event_id, body=result_events.encode(event), once=True)


def _test_track_event(site: str, event_type: str) -> Delivery:
    now = time.time()
    zone = "test" if event_type.startswith("zone.") else None
    is_ended = event_type == ChangeType.ENDED
    track = TrackState(
        id=result_events.new_id(now),
        class_name="person",
        parent="human",
        confidence=1.0,
        started_at=now,
        last_seen_at=now,
        ended_at=now if is_ended else None,
        end_reason=EndReason.STOPPED if is_ended else None,
        stationary=False,
        results=2,
        visits=(),
        box=ObjectBox(10.0, 20.0, 110.0, 220.0),
        frame=FrameRef(id=result_events.new_id(now), at=now, width=1280, height=720),
        path=(PathPoint(now, 0.05, 0.3),),
    )
    change = Change(
        type=ChangeType(event_type),
        at=now,
        track=track,
        zone=zone,
        line="test" if event_type == ChangeType.LINE_CROSSED else None,
        direction="in",
    )
    origin = result_events.EventOrigin(site=site, camera="test", labels={"test": "true"}, service=None)
    event = cloud_event(change, origin)
    return Delivery(id=event["id"], body=result_events.encode(event), is_cloud_event=True, once=True)


async def enable(client: redis.asyncio.Redis, prefix: str, webhook: str) -> bool:
    """Enable a webhook that a 410 response disabled. Return False if the webhook was not disabled."""
    return bool(await client.hdel(WebhookKeys(prefix, webhook).state, "disabled"))


async def replay(
    client: redis.asyncio.Redis,
    prefix: str,
    webhook: str,
    *,
    wanted: WebhookFilter,
    since: datetime,
    any_age: bool = True,
    max_age: float | None = None,
    begun: dict[str, None] | None = None,
) -> ReplayResult:
    """Queue the events from `since` on that are still in their stream and match the filter. Events keep their ids.

    The webhook's `max_age` does not apply to them if `any_age`, as for a replay by an operator. The function updates
    `begun`, the tracks and stays in zones whose end the webhook must receive. Events older than `max_age` seconds do
    not count for `begun`, because the sender drops them.
    """
    keys = WebhookKeys(prefix, webhook)
    start = f"{max(0, int(since.timestamp() * 1000))}-0"
    queued, rest_from = 0, None
    known: dict[str, None] = {} if begun is None else begun
    for stream in wanted.streams:

        def choose(_entry: bytes, fields: _Fields, stream: Stream = stream) -> Delivery | None:
            try:
                delivery = wanted.apply(stream, fields[b"camera"].decode(), fields[b"event"], known)
            except (KeyError, ValueError):
                return None
            if delivery is None:
                return None
            delivery = replace(delivery, any_age=any_age or delivery.any_age)
            if not delivery.is_expired(time.time(), max_age):
                known.update(dict.fromkeys(delivery.begins))
            known.pop(delivery.ends or "", None)
            return delivery

        found = await _queue_entries(client, keys, _pages(client, f"{prefix}:{stream}", start), choose)
        queued += found.queued
        rest_from = min(filter(None, (rest_from, found.rest_from)), default=None)
    return ReplayResult(queued=queued, rest_from=rest_from)


async def replay_dead(client: redis.asyncio.Redis, prefix: str, webhook: str) -> ReplayResult:
    """Move the webhook's dead letters back to its queue. The events keep their ids, and may have any age."""

    def choose(entry: bytes, fields: _Fields) -> Delivery | None:
        if fields.get(b"webhook") != webhook.encode():
            return None
        delivery_id, body = _text(fields.get(b"id", entry)), fields.get(b"event", b"")
        if not PLAIN_ID.fullmatch(delivery_id):
            return None
        try:
            return replace(Delivery.of(delivery_id, body), any_age=True)
        except ValueError:
            return None  # another program wrote this entry

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
