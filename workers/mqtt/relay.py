"""Results from the stream to whoever publishes them, none left out: read as a consumer group, acknowledged when done.

While there is nobody to publish they wait in Redis, bounded by the stream, and what is trimmed there meanwhile is
counted. Knows nothing of MQTT, but that a broker may go away whenever one certain message comes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError, ResponseError

from nvision_hub.backoff import Backoff
from nvision_hub.broker.connection import connect
from nvision_hub.broker.groups import Group
from nvision_hub.config.models import ID_PATTERN
from nvision_hub.errors import redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from collections.abc import Set as AbstractSet

    from nvision_hub.broker.connection import Stream
    from nvision_hub.broker.groups import Batch
    from nvision_hub.status import Meter

log = logging.getLogger("nvision_hub.mqtt")

GROUP: Final = "mqtt"
CONSUMER: Final = "bridge"  # always the same: what one process leaves behind is its successor's
BATCH_EVENTS: Final = 64
ARRIVAL_WITHIN_S: Final = 2.0  # below the client's time-out for an answer
REFUSALS_MAX: Final = 3  # in a row, of one event sent alone: then it is the event, and not the broker
OUTCOMES: Final = ("published", "missed", "refused")

_CAMERA: Final = b"camera"
_EVENT: Final = b"event"
_ID: Final = re.compile(ID_PATTERN.encode())

Entry = tuple[bytes, dict[bytes, bytes]]


class Relay:
    """One stream's results, on their way to a publisher; as that goes and comes, `run` is cancelled and called anew."""

    def __init__(self, stream: Stream, meter: Meter) -> None:
        self._client = connect(stream.url)
        self._stream = f"{stream.prefix}:results"
        self._group = Group(self._client, stream=self._stream, name=GROUP, consumer=CONSUMER)
        self._meter = meter
        self._held: deque[Entry] = deque()  # given to us by Redis, and not published yet
        self._done: list[bytes] = []  # published, and not acknowledged yet
        self._read_to = b"0-0"
        self._joined = False
        self._was_there = False  # whether the group has been seen: one that is then missing is owed everything
        self._unanswered = 0  # of those handed on together
        self._refusals = 0  # in a row, of the first one held
        self._backoff = Backoff(first_s=0.2, cap_s=3.0, healthy_s=5.0)
        self.caught_up = asyncio.Event()  # set while nothing waits, as far as is known
        self.error: str | None = None  # why Redis cannot be read, as a sentence; None while it can
        for outcome in OUTCOMES:
            meter.count("mqtt_published_total", 0, outcome=outcome)

    async def join(self) -> None:
        """Have a group from now on, whoever publishes and whenever; waits for Redis as long as it takes."""
        while not self._joined:
            await self._guarded(self._join)

    async def run(self, publish: Callable[[str, bytes], Awaitable[None]]) -> None:
        """Hand events on with `publish(camera, event)`, for ever.

        An error of `publish` ends this; what is not answered by then is handed on first by the next call.
        """
        while True:
            if self._held:
                await self._hand_on(publish)
            else:
                await self._guarded(self._fetch)

    async def count_pending(self) -> None:
        """Bring `mqtt_pending` up to date, as far as Redis answers."""
        with suppress(RedisError, OSError):
            ours = await self._look()
            if ours is not None:
                pending = (ours.get("lag") or 0) + ours["pending"] - len(self._done)
                self._meter.gauge("mqtt_pending", max(0, pending))

    async def close(self) -> None:
        """The end: acknowledge what is done, as far as Redis answers."""
        with suppress(RedisError, OSError):
            await self._acknowledge()
        with suppress(RedisError, OSError):
            await self._client.aclose()

    def cut_off(self) -> None:
        """The publisher was there, and went away by itself, perhaps over what it had been given last."""
        if not self._unanswered:
            return
        self._refusals += 1
        if self._unanswered == 1 and self._refusals > REFUSALS_MAX:
            log.warning("the MQTT broker closes the connection whenever one of the results comes; it is left out")
            self._settle(1, "refused")

    async def _hand_on(self, publish: Callable[[str, bytes], Awaitable[None]]) -> None:
        # One alone after it was cut off, so that it is known which.
        batch = [self._held[0]] if self._refusals else list(self._held)
        sending = [asyncio.ensure_future(publish(fields[_CAMERA].decode(), fields[_EVENT])) for _, fields in batch]
        self._unanswered = len(batch)
        try:
            await asyncio.gather(*sending)
        finally:
            for each in sending:
                each.cancel()
            answered = sum(1 for _ in takewhile(_answered, sending))
            self._unanswered -= answered
            if answered:
                self._settle(answered, "published")

    def _settle(self, count: int, outcome: str) -> None:
        """The first `count` of those held are dealt with."""
        self._done.extend(self._held.popleft()[0] for _ in range(count))
        self._refusals = 0
        self._meter.count("mqtt_published_total", count, outcome=outcome)

    async def _fetch(self) -> None:
        """More to hand on, or nothing after a while."""
        if not self._joined:
            await self._join()
        if self._done:
            await self._acknowledge()
        try:
            batch = await self._group.read(BATCH_EVENTS)
        except ResponseError:
            self._joined = False  # the group is gone, as when a broker comes back empty
            raise
        self._take(batch)
        if batch.entries:
            return
        self.caught_up.set()
        await self._client.xread({self._stream: self._read_to}, count=1, block=int(ARRIVAL_WITHIN_S * 1000))

    async def _join(self) -> None:
        await self._group.create(from_start=self._was_there)
        self._was_there = True
        self._take(await self._group.resume(), known={*self._done, *(entry for entry, _ in self._held)})
        ours = await self._look()
        self._read_to = ours["last-delivered-id"] if ours is not None else b"0-0"
        self._joined = True

    async def _look(self) -> dict[str, Any] | None:
        """What Redis tells of our group; None where there is none."""
        groups: Any = await self._client.xinfo_groups(self._stream)
        return next((group for group in groups if group["name"] == GROUP.encode()), None)

    def _take(self, batch: Batch, known: AbstractSet[bytes] = frozenset()) -> None:
        for entry, fields in batch.entries:
            if entry in known:
                continue
            if _is_result(fields):
                self._held.append((entry, fields))
            else:  # somebody else's, and in nobody's interest
                self._done.append(entry)
                self._meter.count("mqtt_published_total", outcome="refused")
        if batch.entries:
            self._read_to = batch.entries[-1][0]
            self.caught_up.clear()
        missed = (batch.trimmed.undelivered or 0) + batch.trimmed.unacknowledged
        if missed:
            log.warning("%d results left the stream before they could be passed on; they are missed", missed)
            self._meter.count("mqtt_published_total", missed, outcome="missed")

    async def _acknowledge(self) -> None:
        done = list(self._done)
        await self._group.acknowledge(*done)
        del self._done[: len(done)]

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        """One step, or a pause where Redis does not take part."""
        try:
            await step()
        except (RedisError, OSError) as error:
            sentence = f"Redis cannot be read ({redact(str(error)) or type(error).__name__}); tried again until it can"
            if self.error is None:
                log.warning("%s", sentence)
            self.error = sentence
            self._backoff.failed()
            await asyncio.sleep(self._backoff.next_s())
        else:
            if self.error is not None:
                log.info("Redis is back")
            self.error = None
            self._backoff.healthy(asyncio.get_running_loop().time())


def _answered(sending: asyncio.Future[None]) -> bool:
    return sending.done() and not sending.cancelled() and sending.exception() is None


def _is_result(fields: dict[bytes, bytes]) -> bool:
    """Whether an entry is what the hub writes; its camera becomes part of a topic."""
    return _EVENT in fields and _ID.fullmatch(fields.get(_CAMERA, b"")) is not None
