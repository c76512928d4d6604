"""Events to Redis: published for whoever listens now, added to the stream for whoever must not miss one.

Both in one transaction. While Redis is away results wait on disk, in order and bounded; in memory where there is no
place on disk. Each that a bound takes is lost and counted. A batch whose answer was lost is sent again, and so is what
another Redis than before may not have of the last seconds: results keep their ids, which makes that harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nvision_hub import events
from nvision_hub.backoff import Backoff
from nvision_hub.broker.backlog import Backlog
from nvision_hub.broker.connection import Connection, Stream, connect
from nvision_hub.broker.outgoing import Outgoing, Recent, Waiting
from nvision_hub.errors import redact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from nvision_hub.broker.spool import SpoolPlace
    from nvision_hub.status import Meter

__all__ = ["Publisher", "Stream", "connect"]

log = logging.getLogger("nvision_hub.broker")

SENT_WITHIN_S: Final = 10.0
ASKED_EVERY_S: Final = 10.0  # for a sign of life, where nothing is to be sent
BATCH_EVENTS: Final = 64
BATCH_BYTES: Final = 4 * 2**20
WAITING_MAX_EVENTS: Final = 2_000
WAITING_MAX_BYTES: Final = 16 * 2**20
NEWS_MAX_EVENTS: Final = 200
RECENT_S: Final = 3.0  # a Redis that syncs each second is up to two behind while its disk is busy
RECENT_MAX_EVENTS: Final = 1_000
RECENT_MAX_BYTES: Final = 4 * 2**20
PATIENT_FOR_S: Final = 1.0  # with a Redis that does not answer, while there is no room for more
SAVED_EVERY_S: Final = 0.2  # while Redis is away: what a killed process takes along, against commits
SAVED_WITHIN_S: Final = 1.0  # at the end, for a slow disk
DRAINING_RETRY_S: Final = 0.1  # an end has no time for longer pauses


class Publisher:
    """One process's way to Redis. `run` is its task; `publish` and `announce` never wait.

    `spool` is where results wait while Redis is away; None: in memory alone.
    """

    def __init__(self, stream: Stream, meter: Meter, spool: SpoolPlace | None = None, *, of_many: bool = False) -> None:
        self._stream = stream
        self._of_many = of_many
        self._meter = meter
        self._backlog = Backlog(spool, meter)  # older than all in memory
        self._results = Waiting(max_events=WAITING_MAX_EVENTS, max_bytes=WAITING_MAX_BYTES)
        self._news = Waiting(max_events=NEWS_MAX_EVENTS, max_bytes=WAITING_MAX_BYTES)
        self._recent = Recent(within_s=RECENT_S, max_events=RECENT_MAX_EVENTS, max_bytes=RECENT_MAX_BYTES)
        self._confirmed_by: str | None = None  # the Redis that has the recent ones
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()  # a pause is to be cut short
        self._draining = False
        self._last_call = False  # draining, and there is no more time to send
        self._done = False  # draining, and nothing is left that could be sent or saved
        self._ended = asyncio.Event()
        self._limit: asyncio.Timeout | None = None  # of what is being sent
        self._backoff = Backoff(first_s=0.2, cap_s=3.0, healthy_s=5.0)
        self._redis_error: str | None = None

    @property
    def error(self) -> str | None:
        """Why Redis or the spool cannot be used, as a sentence; None while both can."""
        return "; ".join(filter(None, (self._redis_error, self._backlog.error))) or None

    @property
    def results_waiting(self) -> int:
        """How many results are neither published nor lost, in memory or on disk."""
        return len(self._results) + self._backlog.count

    def publish(self, camera: str, event: dict[str, Any]) -> None:
        """A result, for the camera's channel and for the stream."""
        if lost := self._results.add(_outgoing(event["hub"]["id"], camera, event)):
            reason = "redis_away" if self._backlog.error is None else "disk_full"
            self._meter.count("results_lost_total", by=lost, reason=reason)
        if self._results.half_full and self._backlog.usable:
            self._make_room()
        self._changed()

    def announce(self, camera: str, event: dict[str, Any]) -> None:
        """News about the hub itself, for whoever listens now: while Redis is away the oldest are forgotten."""
        self._news.add(_outgoing("", camera, event))
        self._changed()

    def _make_room(self) -> None:
        """Let what waits go to the disk now: neither a pause nor an answer that takes its time is waited for."""
        self._hurry.set()
        now = asyncio.get_running_loop().time()
        if self._limit is not None and now > (self._limit.when() or now) - SENT_WITHIN_S + PATIENT_FOR_S:
            self._limit.reschedule(now)

    @property
    def _waiting(self) -> int:
        return self.results_waiting + len(self._news)

    def _changed(self) -> None:
        self._meter.gauge("spool_events", self._waiting)
        if self._results or self._news:
            self._arrived.set()
        else:
            self._arrived.clear()

    async def run(self) -> None:
        """Send what waits, as it comes, until it is drained; through Redis' absences too."""
        connection = Connection(self._stream)
        try:
            await self._backlog.take_over()
            while not self._done:
                try:
                    await self._step(connection)
                except (RedisError, OSError) as error:
                    await self._away(connection, error)
        finally:
            await connection.close()
            await self._backlog.close()
            self._ended.set()

    async def _step(self, connection: Connection) -> None:
        """Send the oldest of what waits; ask for a sign of life where nothing does."""
        if not self._waiting and not self._draining and self._redis_error is None:
            await _within(ASKED_EVERY_S, self._arrived)
            if self._backlog.error is not None:
                await self._backlog.take_over()
        if self._draining and (self._last_call or not self._waiting):
            await self._save()
            self._done = True
            return
        server = await connection.server()
        if server is None or not self._waiting:
            async with self._limited():
                server = await connection.open()
                if not self._waiting:
                    await connection.ping()
        if server != self._confirmed_by:
            await self._send_again(connection)
            self._confirmed_by = server
        if (stored := await self._backlog.oldest(BATCH_EVENTS, BATCH_BYTES)) is not None:
            results, position = stored
            await self._send(connection, results)
            await self._backlog.sent(results, position)
        else:
            results = self._results.take(BATCH_EVENTS, BATCH_BYTES)
            await self._send(connection, results)
            self._results.done()
        self._confirmed(results)
        # What comes while much is on disk goes there too, or a killed process would take it along.
        if self._results.half_full or self._backlog.count > BATCH_EVENTS < len(self._results):
            await self._save()
        elif stored is None and self._backlog.count:  # it cannot be read now
            await _within(SAVED_EVERY_S, self._arrived)

    async def _send(self, connection: Connection, results: Sequence[Outgoing]) -> None:
        news = self._news.take(BATCH_EVENTS, BATCH_BYTES)
        if results or news:
            async with self._limited():
                await connection.send(results, news)
        self._news.done()

    async def _send_again(self, connection: Connection) -> None:
        """To another Redis than the one that has confirmed them: it may have come back without them."""
        recent = self._recent.events()
        for start in range(0, len(recent), BATCH_EVENTS):
            async with self._limited():
                await connection.send(recent[start : start + BATCH_EVENTS])
        if recent:
            self._meter.count("results_resent_total", by=len(recent))
            log.info("Redis is not the one it was; it is sent the last %s results again", len(recent))

    def _confirmed(self, results: Sequence[Outgoing]) -> None:
        now, wall = time.monotonic(), time.time()
        for each in results:
            self._meter.count("results_published_total", 1, **({"camera": each.camera} if self._of_many else {}))
            self._meter.observe("publish_seconds", max(0.0, wall - each.received_at))
        self._recent.add(results, now)
        if self._redis_error is not None:
            log.info("Redis is back")
            self._redis_error = None
        self._backoff.healthy(now)
        self._changed()

    @contextlib.asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        """Fails after `SENT_WITHIN_S`, or when `drain` can wait no longer."""
        self._limit = limit = asyncio.timeout(SENT_WITHIN_S)
        async with limit:
            try:
                yield
            finally:
                self._limit = None

    async def _save(self) -> bool:
        """Move what waits in memory to the disk; False where it cannot go there."""
        saved = await self._backlog.save(self._results.take_all())
        if saved:
            self._results.done()
        else:
            self._results.put_back()
        self._changed()
        return saved

    async def _away(self, connection: Connection, error: Exception) -> None:
        """Redis could not be used: keep what waits, and wait before the next try."""
        self._results.put_back()
        self._news.put_back()
        sentence = (
            f"Redis cannot be used ({redact(str(error)) or type(error).__name__}); results wait here until it can"
        )
        if self._redis_error is None:
            log.warning("%s", sentence)
        self._redis_error = sentence
        await connection.drop()
        saved = await self._save()
        if not self._draining:
            saved = await self._pause(self._backoff.next_s())
        elif not saved:
            await asyncio.sleep(DRAINING_RETRY_S)
        if self._draining and (saved or self._last_call):
            self._done = True

    async def _pause(self, seconds: float) -> bool:
        """Save what comes until the time is over, or the end has come; whether all is saved."""
        until = time.monotonic() + seconds
        saved = False
        while not self._draining and (left_s := until - time.monotonic()) > 0:
            await _within(min(left_s, SAVED_EVERY_S), self._hurry)
            self._hurry.clear()
            saved = await self._save()
        return saved

    async def drain(self, within_s: float) -> None:
        """The end: wait until all is sent. What is not sent within `within_s` stays in the spool, or is lost.

        Where Redis is away already and all is on disk nothing is waited for.
        """
        self._draining = True
        self._arrived.set()
        self._hurry.set()
        await _within(within_s, self._ended)
        if not self._ended.is_set():
            self._last_call = True
            if self._limit is not None:
                self._limit.reschedule(asyncio.get_running_loop().time())
            await _within(SAVED_WITHIN_S, self._ended)
        if lost := self._results.clear():
            self._meter.count("results_lost_total", by=lost, reason="stopped")
        self._changed()


def _outgoing(name: str, camera: str, event: dict[str, Any]) -> Outgoing:
    return Outgoing(id=name, camera=camera, payload=events.encode(event), received_at=time.time())


async def _within(seconds: float, news: asyncio.Event) -> None:
    """Wait for news, but not for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await news.wait()
