"""Forwarder that passes each event (a result or a track event) from a Redis stream to a publisher.

The forwarder reads through a consumer group and acknowledges each event after publishing it. Without a publisher,
events wait in Redis until Redis trims them from the stream. The forwarder counts trimmed events. If the MQTT broker
closes the connection each time a certain event arrives, the forwarder skips this event. After several skipped events in
a row, the broker apparently rejects their topic, so the forwarder skips all events for an hour.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Literal

from redis.exceptions import RedisError

from nvision_hub.backoff import Backoff
from nvision_hub.broker.client import connect
from nvision_hub.broker.consumer_group import ConsumerGroup
from nvision_hub.broker.failures import failure_reason
from nvision_hub.config.field_types import ID_PATTERN
from nvision_hub.metrics import catalogue
from nvision_hub.nvision.received_events import ReceivedResult, ReceivedTrackEvent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from collections.abc import Set as AbstractSet

    from nvision_hub.broker.client import RedisSettings
    from nvision_hub.broker.consumer_group import EntryBatch
    from nvision_hub.metrics.catalogue import Counter
    from nvision_hub.metrics.meter import Meter

log = logging.getLogger("nvision_hub.mqtt")

BATCH_EVENTS: Final = 64
ARRIVAL_TIMEOUT_S: Final = 2.0  # must be less than the command timeout of the Redis client
# Number of consecutive refusals of one event; after one more refusal, the forwarder skips the event.
MAX_REFUSALS: Final = 3
MAX_SKIPPED: Final = 3  # number of consecutive skipped events after which the forwarder skips all events for a time
BLOCKED_S: Final = 3_600.0

_CAMERA: Final = b"camera"
_EVENT: Final = b"event"
_ID: Final = re.compile(ID_PATTERN.encode())


@dataclass(frozen=True, kw_only=True, slots=True)
class EventKind:
    """Kind of events in one stream. `parse` raises `ValueError` for an entry that no hub wrote."""

    stream: Literal["results", "tracks"]
    noun: str  # for log messages
    parse: Callable[[bytes], object]
    outcomes: Counter


RESULTS: Final = EventKind(
    stream="results",
    noun="result",
    parse=ReceivedResult.parse,
    outcomes=catalogue.MQTT_PUBLISHED_TOTAL,
)
TRACKS: Final = EventKind(
    stream="tracks",
    noun="track event",
    parse=ReceivedTrackEvent.parse,
    outcomes=catalogue.MQTT_TRACK_EVENTS_TOTAL,
)


class EventForwarder:
    """Forwarder of one stream. The caller calls `run` once for each connection of the publisher."""

    def __init__(self, settings: RedisSettings, meter: Meter, kind: EventKind) -> None:
        self._client = connect(settings.url)
        self._kind = kind
        # The consumer's name is constant, so a process inherits the pending entries of its predecessor.
        stream = f"{settings.prefix}:{kind.stream}"
        self._group = ConsumerGroup(self._client, stream=stream, name="mqtt", consumer="bridge")
        self._meter = meter
        self._pending = 0
        self._held: deque[tuple[bytes, dict[bytes, bytes]]] = deque()  # received from Redis but not published yet
        self._done: list[bytes] = []  # published but not acknowledged yet
        self._joined = False
        self._was_joined = False  # if True, a lost group is recreated at the start of the stream
        self._unanswered = 0  # number of events that the broker has not acknowledged on this connection
        self._refusals = 0  # number of consecutive refusals of the first held event
        self._skipped = 0  # number of consecutive skipped events
        self._blocked_until = float("-inf")  # time of the event loop until which the forwarder skips all events
        self._backoff = Backoff(first_s=0.2, cap_s=3.0, healthy_s=5.0)
        self.caught_up = asyncio.Event()  # set while no event waits in Redis or in `_held`
        self.error: str | None = None  # why Redis is unreadable; None while it is readable
        for outcome in ("published", "missed", "refused"):
            meter.count(kind.outcomes, 0, outcome=outcome)

    async def join(self) -> None:
        """Create the group, so that no later event is missed. Wait for Redis as long as necessary."""
        while not self._joined:
            await self._try_step(self._join)

    async def run(self, publish: Callable[[str, bytes], Awaitable[None]], turn: asyncio.Lock) -> None:
        """Publish events with `publish(camera, event)` until canceled.

        All forwarders of a connection share its `turn`, so only one of them publishes at a time. After an error, none
        of them gets another turn. Therefore, only the forwarder whose event was being sent has unanswered events.

        An error from `publish` ends `run`. The next call of `run` starts with the unpublished events.
        """
        self._unanswered = 0
        while True:
            if self._held and asyncio.get_running_loop().time() < self._blocked_until:
                self._settle(len(self._held), "refused")
            elif self._held:
                await turn.acquire()
                await self._publish_held(publish)
                turn.release()
            else:
                await self._try_step(self._fetch)

    async def count_pending(self) -> int:
        """Return the number of waiting events, or the last known number if Redis does not respond."""
        with suppress(RedisError, OSError):
            self._pending = max(0, await self._group.count_waiting() - len(self._done))
        return self._pending

    async def close(self) -> None:
        """Acknowledge published events if Redis responds, and close the client."""
        with suppress(RedisError, OSError):
            await self._acknowledge()
        with suppress(RedisError, OSError):
            await self._client.aclose()

    def on_connection_closed(self) -> None:
        """Count a connection that the broker closed. The first held event may be the cause."""
        unanswered, self._unanswered = self._unanswered, 0
        if not unanswered:
            return
        self._refusals += 1
        if unanswered == 1 and self._refusals > MAX_REFUSALS:
            log.warning(
                "skipped a %s: the MQTT broker closes the connection each time it arrives",
                self._kind.noun,
                extra={"event": "mqtt_result_skipped"},
            )
            self._settle(1, "refused")
            self._skipped += 1
            if self._skipped >= MAX_SKIPPED:
                self._block()

    def _block(self) -> None:
        log.warning(
            "the MQTT broker does not accept the topic …/%s: %ss are not published for %.0f minutes; allow the topic "
            "in the rules of the broker",
            self._kind.stream,
            self._kind.noun,
            BLOCKED_S / 60,
            extra={"event": "mqtt_topic_refused"},
        )
        self._blocked_until = asyncio.get_running_loop().time() + BLOCKED_S

    async def _publish_held(self, publish: Callable[[str, bytes], Awaitable[None]]) -> None:
        # After a closed connection, publish only one event at a time, which identifies the event at fault.
        batch = [self._held[0]] if self._refusals else list(self._held)
        sending = [asyncio.ensure_future(publish(fields[_CAMERA].decode(), fields[_EVENT])) for _, fields in batch]
        self._unanswered = len(batch)
        try:
            await asyncio.gather(*sending)
        finally:
            for each in sending:
                each.cancel()
            if answered := sum(1 for _ in takewhile(_is_published, sending)):
                self._unanswered -= answered
                self._skipped = 0
                self._settle(answered, "published")

    def _settle(self, count: int, outcome: str) -> None:
        """Move the first `count` held events to the list of entries to acknowledge."""
        self._done.extend(self._held.popleft()[0] for _ in range(count))
        self._refusals = 0
        self._meter.count(self._kind.outcomes, count, outcome=outcome)

    async def _fetch(self) -> None:
        """Read more events. If there are none, wait for a new event for a limited time."""
        if not self._joined:
            await self._join()
        await self._acknowledge()
        try:
            batch = await self._group.read(BATCH_EVENTS)
        except BaseException:
            # A call of `join` recreates the group if a restart of Redis has lost it. The call also claims entries that
            # Redis handed out but that did not arrive, for example because the read was canceled.
            self._joined = False
            raise
        self._hold(batch)
        if batch.entries:
            return
        self.caught_up.set()
        await self._group.wait(ARRIVAL_TIMEOUT_S)

    async def _join(self) -> None:
        await self._group.create(from_start=self._was_joined)
        self._was_joined = True
        self._hold(await self._group.resume(), known={*self._done, *(entry for entry, _ in self._held)})
        await self._group.count_waiting()
        self._joined = True

    def _hold(self, batch: EntryBatch, known: AbstractSet[bytes] = frozenset()) -> None:
        for entry, fields in batch.entries:
            if entry in known:
                continue
            # The topic contains the camera's id, so the id must be valid.
            if _is_event(fields, self._kind):
                self._held.append((entry, fields))
            else:  # another program wrote this entry
                self._done.append(entry)
                self._meter.count(self._kind.outcomes, outcome="refused")
        if batch.entries:
            self.caught_up.clear()
        if missed := batch.trimmed.known:
            log.warning(
                "%d %ss were trimmed from the stream before MQTT publication; raise redis.stream_max_entries or "
                "redis.stream_max_bytes",
                missed,
                self._kind.noun,
                extra={"event": "mqtt_results_missed"},
            )
            self._meter.count(self._kind.outcomes, missed, outcome="missed")

    async def _acknowledge(self) -> None:
        done = list(self._done)
        await self._group.acknowledge(*done)
        del self._done[: len(done)]

    async def _try_step(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run one step. If Redis fails, wait before the next attempt."""
        try:
            await step()
        except (RedisError, OSError) as error:
            reason = failure_reason(error)
            sentence = f"Redis cannot be read ({reason}); retrying"
            if self.error is None:
                log.warning("%s", sentence, extra={"event": "mqtt_redis_unavailable"})
            self.error = sentence
            await asyncio.sleep(self._backoff.next_s())
        else:
            if self.error is not None:
                log.info("Redis is available again", extra={"event": "mqtt_redis_available"})
            self.error = None
            self._backoff.healthy(asyncio.get_running_loop().time())


def _is_event(fields: dict[bytes, bytes], kind: EventKind) -> bool:
    """Return whether a hub could have written this entry."""
    if not _ID.fullmatch(fields.get(_CAMERA, b"")):
        return False
    try:
        kind.parse(fields.get(_EVENT, b""))
    except ValueError:
        return False
    return True


def _is_published(sending: asyncio.Future[None]) -> bool:
    return sending.done() and not sending.cancelled() and sending.exception() is None
