"""Publisher of events to Redis: to channels for current subscribers, and to a stream for readers that need every event.

The publisher writes to the channels and the stream in one transaction. While Redis is unavailable, results wait on disk
in order and within bounds, or in memory if there is no disk space. The publisher counts each result that it must drop.

The publisher sends a batch again if Redis does not reply. If Redis restarts and may have lost the results of the last
few seconds, the publisher sends these results again. Results keep their ids, so a consumer can recognize duplicates.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nvision_hub.backoff import Backoff
from nvision_hub.broker.client import RedisConnection, RedisSettings
from nvision_hub.broker.failures import failure_reason
from nvision_hub.broker.send_buffer import OutgoingEvent, RecentEvents, SendBuffer
from nvision_hub.broker.spool_writer import SpoolWriter
from nvision_hub.metrics import catalogue
from nvision_hub.nvision import result_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from nvision_hub.broker.spool import SpoolSettings
    from nvision_hub.metrics.meter import Meter

log = logging.getLogger("nvision_hub.broker")

SEND_TIMEOUT_S: Final = 10.0
PING_INTERVAL_S: Final = 10.0  # while there is nothing to send
BATCH_EVENTS: Final = 64
BATCH_BYTES: Final = 4 * 2**20
MAX_BUFFERED_EVENTS: Final = 2_000
MAX_BUFFERED_BYTES: Final = 16 * 2**20
MAX_HUB_EVENTS: Final = 200
# With appendfsync everysec, a busy disk delays the sync by up to 2 s. A master that loses its replicas accepts events
# for up to 4 s more: the recommended min-replicas-max-lag of 3 s, plus 1 s, because Redis checks once a second.
RECENT_S: Final = 5.0
MAX_RECENT_EVENTS: Final = 1_000
MAX_RECENT_BYTES: Final = 4 * 2**20
# Maximum time to wait for a reply from Redis while the buffer is more than half full.
FULL_BUFFER_TIMEOUT_S: Final = 1.0
# Interval while Redis is unavailable. A process that is killed loses the results since the last save.
SAVE_INTERVAL_S: Final = 0.2
SAVE_TIMEOUT_S: Final = 1.0  # extra time at the end of a drain, for a slow disk
DRAIN_RETRY_INTERVAL_S: Final = 0.1


class Publisher:
    """Publisher of one process. `run` sends the events in a task of its own. `publish` and `announce` never wait.

    Without `spool`, results wait only in memory. A process that publishes for several cameras sets `label_camera`. The
    counter of published results then has a label for the camera.
    """

    def __init__(
        self, settings: RedisSettings, meter: Meter, spool: SpoolSettings | None = None, *, label_camera: bool = False
    ) -> None:
        self._settings = settings
        self._label_camera = label_camera
        self._meter = meter
        self._spool = SpoolWriter(spool, meter)  # spooled results are older than all results in memory
        self._results = SendBuffer(max_events=MAX_BUFFERED_EVENTS, max_bytes=MAX_BUFFERED_BYTES)
        self._hub_events = SendBuffer(max_events=MAX_HUB_EVENTS, max_bytes=MAX_BUFFERED_BYTES)
        self._recent = RecentEvents(timeout_s=RECENT_S, max_events=MAX_RECENT_EVENTS, max_bytes=MAX_RECENT_BYTES)
        self._confirmed_by: str | None = None  # run id of the Redis process that has the recent results
        self._arrived = asyncio.Event()
        self._skip_pause = asyncio.Event()
        self._draining = False
        self._drain_expired = False
        self._finished = False  # whether draining has left nothing to send or save
        self._ended = asyncio.Event()
        self._send_limit: asyncio.Timeout | None = None  # time limit of the batch that is being sent
        self._backoff = Backoff(first_s=0.2, cap_s=3.0, healthy_s=5.0)
        self._redis_error: str | None = None
        self.is_recovered = False  # whether `results_waiting` includes the results left by an earlier process, if any

    @property
    def error(self) -> str | None:
        """Message that says why Redis or the spool cannot be used; None while both are usable."""
        return "; ".join(filter(None, (self._redis_error, self._spool.error))) or None

    @property
    def results_waiting(self) -> int:
        """Number of results in memory and on disk that are neither published nor dropped."""
        return len(self._results) + self._spool.count

    def publish(self, camera: str, event: dict[str, Any]) -> None:
        """Queue a result for the camera's channel and the stream."""
        self._queue(_outgoing(event["hub"]["id"], camera, event))

    def _queue(self, event: OutgoingEvent) -> None:
        if lost := self._results.add(event):
            reason = "redis_away" if self._spool.error is None else "disk_full"
            self._meter.count(catalogue.RESULTS_LOST_TOTAL, by=lost, reason=reason)
        if self._results.is_half_full and self._spool.is_usable:
            # End a pause or a slow send. `run` can then move the buffered results to the spool.
            self._skip_pause.set()
            now = asyncio.get_running_loop().time()
            if self._send_limit is not None:
                started = (self._send_limit.when() or now) - SEND_TIMEOUT_S
                if now > started + FULL_BUFFER_TIMEOUT_S:
                    self._send_limit.reschedule(now)
        self._on_change()

    def publish_track(self, camera: str, event: dict[str, Any]) -> None:
        """Queue an event of a track. The publisher's stream must be `tracks`."""
        self._queue(_outgoing(event["id"], camera, event))

    def announce(self, camera: str, event: dict[str, Any]) -> None:
        """Queue an event about the hub for current subscribers. A full buffer drops its oldest events."""
        self._hub_events.add(_outgoing("", camera, event))
        self._on_change()

    @property
    def _waiting(self) -> int:
        return self.results_waiting + len(self._hub_events)

    def _on_change(self) -> None:
        self._meter.set_gauge(catalogue.SPOOL_EVENTS, self._waiting)
        if self._results or self._hub_events:
            self._arrived.set()
        else:
            self._arrived.clear()

    async def run(self) -> None:
        """Send events as they arrive until the publisher is drained. Continue after outages of Redis."""
        connection = RedisConnection(self._settings)
        try:
            await self._spool.recover()
            self.is_recovered = True
            while not self._finished:
                try:
                    await self._step(connection)
                except (RedisError, OSError) as error:
                    await self._on_failure(connection, error)
        finally:
            await connection.close()
            await self._spool.close()
            self._ended.set()

    async def _step(self, connection: RedisConnection) -> None:
        """Send the oldest batch, or ping Redis if there is nothing to send."""
        if not self._waiting and not self._draining and self._redis_error is None:
            await _wait(self._arrived, PING_INTERVAL_S)
            if self._spool.error is not None:
                await self._spool.recover()
        if self._draining and (self._drain_expired or not self._waiting):
            await self._save()
            self._finished = True
            return
        await self._connect(connection)
        if (spooled := await self._spool.oldest(BATCH_EVENTS, BATCH_BYTES)) is not None:
            results, position = spooled
            await self._send(connection, results)
            await self._spool.remove(results, position)
        else:
            results = self._results.reserve(BATCH_EVENTS, BATCH_BYTES)
            await self._send(connection, results)
            self._results.remove_reserved()
        self._on_sent(results)
        # A process that is killed would lose the results in memory. The publisher therefore moves them to the spool if
        # the buffer is more than half full, or if the spool and the buffer each hold more than one batch.
        if self._results.is_half_full or self._spool.count > BATCH_EVENTS < len(self._results):
            await self._save()
        elif spooled is None and self._spool.count:  # the spool is currently unreadable
            await _wait(self._arrived, SAVE_INTERVAL_S)

    async def _connect(self, connection: RedisConnection) -> None:
        """Ensure that the connection is open and that Redis still has the recent results."""
        server = await connection.server()
        if server is None or not self._waiting:
            async with self._limit_send():
                server = await connection.open()
                if not self._waiting:
                    await connection.ping()
        if server != self._confirmed_by:
            await self._resend_recent(connection)
            self._confirmed_by = server

    async def _send(self, connection: RedisConnection, results: Sequence[OutgoingEvent]) -> None:
        hub_events = self._hub_events.reserve(BATCH_EVENTS, BATCH_BYTES)
        if results or hub_events:
            async with self._limit_send():
                await connection.send(results, hub_events)
        self._hub_events.remove_reserved()

    async def _resend_recent(self, connection: RedisConnection) -> None:
        recent = self._recent.events()
        for start in range(0, len(recent), BATCH_EVENTS):
            async with self._limit_send():
                await connection.send(recent[start : start + BATCH_EVENTS])
        if recent:
            self._meter.count(catalogue.RESULTS_RESENT_TOTAL, by=len(recent))
            log.info(
                "Redis restarted and may have lost recent results; the last %s results were sent again",
                len(recent),
                extra={"event": "results_resent"},
            )

    def _on_sent(self, results: Sequence[OutgoingEvent]) -> None:
        now, wall = time.monotonic(), time.time()
        for each in results:
            labels = {"camera": each.camera} if self._label_camera else {}
            self._meter.count(catalogue.RESULTS_PUBLISHED_TOTAL, 1, **labels)
            self._meter.observe(catalogue.PUBLISH_SECONDS, max(0.0, wall - each.received_at))
        self._recent.add(results, now)
        if self._redis_error is not None:
            log.info("Redis is available again", extra={"event": "redis_available"})
            self._redis_error = None
        self._backoff.healthy(now)
        self._on_change()

    @contextlib.asynccontextmanager
    async def _limit_send(self) -> AsyncIterator[None]:
        """Raise `TimeoutError` after `SEND_TIMEOUT_S`, or earlier if `drain` or `publish` ends the wait."""
        self._send_limit = limit = asyncio.timeout(SEND_TIMEOUT_S)
        async with limit:
            try:
                yield
            finally:
                self._send_limit = None

    async def _save(self) -> bool:
        """Move the results in memory to the spool. Return False if the spool does not accept them."""
        saved = await self._spool.save(self._results.reserve())
        if saved:
            self._results.remove_reserved()
        else:
            self._results.release_reserved()
        self._on_change()
        return saved

    async def _on_failure(self, connection: RedisConnection, error: Exception) -> None:
        """Keep all events, and wait before the next attempt."""
        self._results.release_reserved()
        self._hub_events.release_reserved()
        reason = failure_reason(error)
        sentence = f"Redis cannot be used ({reason}); the hub keeps the results until Redis is available"
        if self._redis_error is None:
            log.warning("%s", sentence, extra={"event": "redis_unavailable"})
        self._redis_error = sentence
        await connection.close()
        saved = await self._save()
        if not self._draining:
            saved = await self._pause(self._backoff.next_s())
        elif not saved:
            await asyncio.sleep(DRAIN_RETRY_INTERVAL_S)
        if self._draining and (saved or self._drain_expired):
            self._finished = True

    async def _pause(self, duration_s: float) -> bool:
        """Save new results until the pause ends or draining begins. Return whether all results are saved."""
        until = time.monotonic() + duration_s
        saved = False
        while not self._draining and (left_s := until - time.monotonic()) > 0:
            await _wait(self._skip_pause, min(left_s, SAVE_INTERVAL_S))
            self._skip_pause.clear()
            saved = await self._save()
        return saved

    async def drain(self, timeout_s: float) -> None:
        """Send all events and end `run`. Results that are not sent within `timeout_s` stay in the spool or are lost.

        Return immediately if Redis is unavailable and all results are on disk.
        """
        self._draining = True
        self._arrived.set()
        self._skip_pause.set()
        await _wait(self._ended, timeout_s)
        if not self._ended.is_set():
            self._drain_expired = True
            if self._send_limit is not None:
                self._send_limit.reschedule(asyncio.get_running_loop().time())
            await _wait(self._ended, SAVE_TIMEOUT_S)
        if lost := self._results.clear():
            self._meter.count(catalogue.RESULTS_LOST_TOTAL, by=lost, reason="stopped")
        self._on_change()


def _outgoing(event_id: str, camera: str, event: dict[str, Any]) -> OutgoingEvent:
    return OutgoingEvent(id=event_id, camera=camera, payload=result_events.encode(event), received_at=time.time())


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
