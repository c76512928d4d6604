"""Forwarder of results: passes each result in the Redis stream to a publisher.

The forwarder reads through a consumer group and acknowledges each result after publishing it. Without a publisher,
results wait in Redis until Redis trims them from the stream. The forwarder counts trimmed results. It skips a result if
the MQTT broker closes the connection each time the result arrives.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.backoff import Backoff
from nvision_hub.broker.client import connect
from nvision_hub.broker.consumer_group import ConsumerGroup
from nvision_hub.broker.failures import failure_reason
from nvision_hub.config.field_types import ID_PATTERN
from nvision_hub.metrics import catalogue
from nvision_hub.nvision.received_events import ReceivedResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from collections.abc import Set as AbstractSet

    from nvision_hub.broker.client import RedisSettings
    from nvision_hub.broker.consumer_group import EntryBatch
    from nvision_hub.metrics.meter import Meter

log = logging.getLogger("nvision_hub.mqtt")

BATCH_EVENTS: Final = 64
ARRIVAL_TIMEOUT_S: Final = 2.0  # must be below the command timeout of the Redis client
MAX_REFUSALS: Final = 3  # consecutive refusals of one event; at the next refusal, the forwarder skips the event

_CAMERA: Final = b"camera"
_EVENT: Final = b"event"
_ID: Final = re.compile(ID_PATTERN.encode())


class ResultForwarder:
    """Forwarder of one stream. The caller calls `run` once per connection of the publisher."""

    def __init__(self, stream: RedisSettings, meter: Meter) -> None:
        self._client = connect(stream.url)
        results = f"{stream.prefix}:results"
        # The consumer has a constant name, so that a process inherits the pending entries of its predecessor.
        self._group = ConsumerGroup(self._client, stream=results, name="mqtt", consumer="bridge")
        self._meter = meter
        self._held: deque[tuple[bytes, dict[bytes, bytes]]] = deque()  # received from Redis, not published yet
        self._done: list[bytes] = []  # published, not acknowledged yet
        self._joined = False
        self._was_joined = False  # if True, a lost group is created again at the start of the stream
        self._unanswered = 0  # published events that the broker has not acknowledged
        self._refusals = 0  # consecutive refusals of the first held event
        self._backoff = Backoff(first_s=0.2, cap_s=3.0, healthy_s=5.0)
        self.caught_up = asyncio.Event()  # set while no event waits in Redis or in `_held`
        self.error: str | None = None  # why Redis cannot be read; None while it can be read
        for outcome in ("published", "missed", "refused"):
            meter.count(catalogue.MQTT_PUBLISHED_TOTAL, 0, outcome=outcome)

    async def join(self) -> None:
        """Create the group, so that no later result is missed. Wait for Redis as long as necessary."""
        while not self._joined:
            await self._try_step(self._join)

    async def run(self, publish: Callable[[str, bytes], Awaitable[None]]) -> None:
        """Publish events with `publish(camera, event)`, until canceled.

        An error in `publish` ends `run`. The next call of `run` starts with the unpublished events.
        """
        while True:
            if self._held:
                await self._publish_held(publish)
            else:
                await self._try_step(self._fetch)

    async def count_pending(self) -> None:
        """Update `mqtt_pending` if Redis answers."""
        with suppress(RedisError, OSError):
            pending = await self._group.count_waiting() - len(self._done)
            self._meter.set_gauge(catalogue.MQTT_PENDING, max(0, pending))

    async def close(self) -> None:
        """Acknowledge published events if Redis answers, and close the client."""
        with suppress(RedisError, OSError):
            await self._acknowledge()
        with suppress(RedisError, OSError):
            await self._client.aclose()

    def on_connection_closed(self) -> None:
        """Count a connection that the broker closed, perhaps because of the first held event."""
        if not self._unanswered:
            return
        self._refusals += 1
        if self._unanswered == 1 and self._refusals > MAX_REFUSALS:
            log.warning(
                "skipped a result: the MQTT broker closes the connection each time the result arrives",
                extra={"event": "mqtt_result_skipped"},
            )
            self._settle(1, "refused")

    async def _publish_held(self, publish: Callable[[str, bytes], Awaitable[None]]) -> None:
        # After a closed connection, publish one event at a time to identify the event at fault.
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
                self._settle(answered, "published")

    def _settle(self, count: int, outcome: str) -> None:
        """Move the first `count` held events to the list of entries to acknowledge."""
        self._done.extend(self._held.popleft()[0] for _ in range(count))
        self._refusals = 0
        self._meter.count(catalogue.MQTT_PUBLISHED_TOTAL, count, outcome=outcome)

    async def _fetch(self) -> None:
        """Read more events. If there are none, wait a limited time for a new event."""
        if not self._joined:
            await self._join()
        await self._acknowledge()
        try:
            batch = await self._group.read(BATCH_EVENTS)
        except BaseException:
            # Joining again creates the group if Redis has lost it in a restart. Joining also claims entries that Redis
            # handed out but that did not arrive, for example because the read was canceled.
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
            # A topic contains the camera's id, so the id must be valid.
            if _is_result(fields):
                self._held.append((entry, fields))
            else:  # another program wrote this entry
                self._done.append(entry)
                self._meter.count(catalogue.MQTT_PUBLISHED_TOTAL, outcome="refused")
        if batch.entries:
            self.caught_up.clear()
        if missed := batch.trimmed.known:
            log.warning(
                "%d results were trimmed from the stream before MQTT publication; raise redis.stream_max_entries or "
                "redis.stream_max_bytes",
                missed,
                extra={"event": "mqtt_results_missed"},
            )
            self._meter.count(catalogue.MQTT_PUBLISHED_TOTAL, missed, outcome="missed")

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


def _is_result(fields: dict[bytes, bytes]) -> bool:
    """Return whether a hub may have written this entry."""
    if not _ID.fullmatch(fields.get(_CAMERA, b"")):
        return False
    try:
        ReceivedResult.parse(fields.get(_EVENT, b""))
    except ValueError:
        return False
    return True


def _is_published(sending: asyncio.Future[None]) -> bool:
    return sending.done() and not sending.cancelled() and sending.exception() is None
