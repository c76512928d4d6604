"""Events to Redis: published for whoever listens now, added to the stream for whoever must not miss one.

Both in one transaction. While Redis is away events wait here, in order and bounded; the oldest beyond the bound are
lost and counted. A batch whose answer was lost is sent again: its events keep their ids, which makes that harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from nvision_hub import events
from nvision_hub.backoff import Backoff
from nvision_hub.errors import redact

if TYPE_CHECKING:
    from nvision_hub.status import Meter

log = logging.getLogger("nvision_hub.broker")

COMMAND_WITHIN_S: Final = 5.0
BATCH_EVENTS: Final = 64
WAITING_MAX_EVENTS: Final = 2_000
WAITING_MAX_BYTES: Final = 16 * 2**20
DRAINING_RETRY_S: Final = 0.1  # an end has no time for longer pauses


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Where events go in Redis."""

    url: str
    prefix: str
    max_entries: int  # the stream is trimmed at about this length

    def __repr__(self) -> str:
        return f"Stream({redact(self.url)}, prefix={self.prefix})"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Waiting:
    camera: str
    payload: bytes
    received_mono: float
    is_result: bool  # results are published and streamed; announcements only published


def connect(url: str, *, timeout_s: float | None = COMMAND_WITHIN_S) -> redis.asyncio.Redis:
    """A client whose commands fail within `timeout_s` and are never retried behind our back.

    The library's own retries would repeat an XADD that had arrived. None waits for ever, as blocking readers must.
    """
    return redis.asyncio.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=COMMAND_WITHIN_S,
        retry=Retry(NoBackoff(), 0),
        # Each 1 MB of private memory a worker, measured, for what a publisher has no use for: looking up the library's
        # own version in its package's metadata, and RESP3 with its notifications.
        driver_info=None,
        protocol=2,
    )


class Publisher:
    """One process's way to Redis. `run` is its task; `publish` and `announce` never wait."""

    def __init__(self, stream: Stream, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._in_flight = 0  # how many of the oldest are on their way
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._draining = asyncio.Event()
        self._ended = False
        self._backoff = Backoff(first_s=0.2, cap_s=3.0, healthy_s=5.0)
        self.error: str | None = None  # why Redis cannot be reached, as a sentence; None while it can

    @property
    def results_waiting(self) -> int:
        """How many results are neither published nor lost."""
        return 0 if self._ended else sum(item.is_result for item in self._waiting)

    def publish(self, camera: str, event: dict[str, Any]) -> None:
        """A result, for the camera's channel and for the stream."""
        self._put(_Waiting(camera=camera, payload=events.encode(event), received_mono=time.monotonic(), is_result=True))

    def announce(self, camera: str, event: dict[str, Any]) -> None:
        """News about the hub itself, for whoever listens now."""
        self._put(
            _Waiting(camera=camera, payload=events.encode(event), received_mono=time.monotonic(), is_result=False)
        )

    def _put(self, item: _Waiting) -> None:
        self._waiting.append(item)
        self._waiting_bytes += len(item.payload)
        while len(self._waiting) > self._in_flight and (
            len(self._waiting) > WAITING_MAX_EVENTS or self._waiting_bytes > WAITING_MAX_BYTES
        ):
            # Not those on their way, which may arrive: each is either published or lost, and counted once.
            oldest = self._waiting[self._in_flight]
            del self._waiting[self._in_flight]
            self._waiting_bytes -= len(oldest.payload)
            if oldest.is_result:
                self._meter.count("results_lost_total", reason="redis_away")
        self._meter.gauge("spool_events", len(self._waiting))
        self._emptied.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Send what waits, as it comes, for ever; through Redis' absences too."""
        client = connect(self._stream.url)
        try:
            while True:
                await self._arrived.wait()
                batch = list(islice(self._waiting, BATCH_EVENTS))
                self._in_flight = len(batch)
                try:
                    async with asyncio.timeout(2 * COMMAND_WITHIN_S):
                        await self._send(client, batch)
                except (RedisError, OSError) as error:
                    self._in_flight = 0
                    await self._away(client, error)
                else:
                    self._in_flight = 0
                    self._sent(batch)
        finally:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()

    async def _send(self, client: redis.asyncio.Redis, batch: list[_Waiting]) -> None:
        stream = self._stream
        async with client.pipeline(transaction=True) as pipe:
            for item in batch:
                if item.is_result:
                    pipe.publish(f"{stream.prefix}:results:{item.camera}", item.payload)
                    pipe.xadd(
                        f"{stream.prefix}:results",
                        {"camera": item.camera, "event": item.payload},
                        maxlen=stream.max_entries,
                        approximate=True,
                    )
                else:
                    pipe.publish(f"{stream.prefix}:events", item.payload)
            await pipe.execute()

    def _sent(self, batch: list[_Waiting]) -> None:
        now = time.monotonic()
        for item in batch:
            self._waiting.popleft()
            self._waiting_bytes -= len(item.payload)
            if item.is_result:
                self._meter.count("results_published_total")
                self._meter.observe("publish_seconds", now - item.received_mono)
        if self.error is not None:
            log.info("Redis is back")
            self.error = None
        self._backoff.healthy(now)
        self._meter.gauge("spool_events", len(self._waiting))
        if not self._waiting:
            self._arrived.clear()
            self._emptied.set()

    async def _away(self, client: redis.asyncio.Redis, error: Exception) -> None:
        sentence = (
            f"Redis cannot be used ({redact(str(error)) or type(error).__name__}); results wait here until it can"
        )
        if self.error is None:
            log.warning("%s", sentence)
        self.error = sentence
        # A connection that failed half-way through a transaction is not to be trusted with the next.
        with contextlib.suppress(RedisError, OSError):
            await client.connection_pool.disconnect(inuse_connections=True)
        if self._draining.is_set():
            await asyncio.sleep(DRAINING_RETRY_S)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.next_s()):
                await self._draining.wait()

    async def drain(self, within_s: float) -> None:
        """The end: wait until all is sent, or give up after `within_s` and count what is left as lost."""
        self._draining.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._emptied.wait()
        for item in self._waiting:
            if item.is_result:
                self._meter.count("results_lost_total", reason="stopped")
        self._ended = True
