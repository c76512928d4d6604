"""The real uplink with pictures to send, in the test's own process, to whatever service the test has hurt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.status import Meter
from nvision_hub.wire import Options
from tests.support.ledger import Ledger
from tests.support.recorder import KEY
from workers.camera.dial import Limits, Service
from workers.camera.mailbox import Frame, Mailbox
from workers.camera.pace import Pace
from workers.camera.uplink import Uplink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nvision_hub.events import Sent
    from nvision_hub.wire import NvisionRequest

LOOKED_EVERY_S: Final = 0.02
QUICK: Final = Limits(
    open_s=1.0, send_s=0.6, ping_every_s=0.3, pong_s=0.6, close_s=0.2, answer_s=1.5, retry_first_s=0.1, retry_cap_s=0.4
)


@dataclass(kw_only=True)
class Feed:
    """One uplink, and what came of it. Results that it hands on count as published."""

    uplink: Uplink
    meter: Meter
    results: list[Sent] = field(default_factory=list)
    offered: int = 0
    connected: list[float] = field(default_factory=list)  # CLOCK_MONOTONIC of each time that an error went
    errors: list[tuple[float, str]] = field(default_factory=list)  # each new sentence, and when it came

    @property
    def ledger(self) -> Ledger:
        """The account as it stands."""
        return Ledger.of(self.meter.snapshot())

    def counted(self, metric: str, **labels: str) -> int:
        """A counter: of these labels, or of all where none are given."""
        return int(self.meter.value(metric, **labels) if labels else self.meter.total(metric))

    async def until(self, condition: Callable[[], bool], within_s: float = 10.0) -> float:
        """Wait until it holds; the moment (CLOCK_MONOTONIC) when it did. The account has to balance all the while."""
        end = time.monotonic() + within_s
        while not condition():
            assert self.ledger.balanced, self.ledger
            assert time.monotonic() < end, f"not within {within_s} s: {self.ledger}, {self.uplink.error}"
            await asyncio.sleep(LOOKED_EVERY_S)
        return time.monotonic()

    async def answered(self, more: int = 1, within_s: float = 10.0) -> float:
        """Wait for so many answers from now on."""
        wanted = self.ledger.answered + more
        return await self.until(lambda: self.ledger.answered >= wanted, within_s)


@contextlib.asynccontextmanager
async def feeding(
    url: str,
    *,
    fps: float = 20.0,
    limits: Limits = QUICK,
    jpeg: bytes | None = None,
    jpeg_bytes: int = 20_000,
    pace: Pace | None = None,
    source_id: str = "lobby",
    key: str = KEY,
) -> AsyncIterator[Feed]:
    """An uplink that is given a picture `fps` times a second, until the block ends; drained then, and settled."""
    meter, mailbox = Meter(), Mailbox()

    def receive(_result: NvisionRequest, sent: Sent) -> None:
        meter.count("results_published_total")
        feed.results.append(sent)

    uplink = Uplink(
        service=Service(url=f"{url}/v1/object-detection", key=key, options=Options(), direct=True),
        source_id=source_id,
        fps=fps,
        mailbox=mailbox,
        meter=meter,
        received=receive,
        limits=limits,
        pace=pace or Pace(),
    )
    feed = Feed(uplink=uplink, meter=meter)
    picture = os.urandom(jpeg_bytes) if jpeg is None else jpeg

    async def feed_it() -> None:
        due, known = time.monotonic(), uplink.error
        while True:
            due += 1 / fps
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            frame = Frame(jpeg=picture, width=640, height=360, captured_mono=now, captured_at=time.time())
            feed.offered += 1
            if mailbox.put(frame):
                meter.count("frames_dropped_total", reason="overwritten")
            if uplink.error != known:
                known = uplink.error
                if known is None:
                    feed.connected.append(now)
                else:
                    feed.errors.append((now, known))

    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(uplink.run()), asyncio.create_task(feed_it())]
    try:
        yield feed
        await uplink.drain(1.0)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        assert isinstance(end, asyncio.CancelledError), end
    assert feed.ledger.settled, feed.ledger
    # Whatever was offered was sent, or counted as dropped, or is the one that still lies in the mailbox.
    assert 0 <= feed.offered - feed.ledger.sent - feed.ledger.dropped.total() <= 1
