"""A real uplink in the test's process, for tests that disturb its service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision.connection import ClientTimeouts, ServiceEndpoint
from nvision_hub.nvision.protocol import RequestOptions
from tests.support.ledger import Ledger
from tests.support.metrics import counter, snapshot_json
from tests.support.patience import PATIENCE_S
from tests.support.recorder import KEY
from workers.camera.latest_frame import EncodedFrame, LatestFrameSlot
from workers.camera.uplink import Uplink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nvision_hub.nvision.nvision_pb2 import NvisionRequest
    from nvision_hub.nvision.result_events import SentFrame
    from workers.camera.connection_turns import ReconnectTurn

POLL_INTERVAL_S: Final = 0.02
QUICK: Final = ClientTimeouts(
    open_timeout_s=1.0,
    send_timeout_s=0.6,
    ping_interval_s=0.3,
    pong_timeout_s=0.6,
    close_timeout_s=0.2,
    result_timeout_s=1.5,
    retry_first_s=0.1,
    retry_cap_s=0.4,
)


@dataclass(kw_only=True)
class Feed:
    """One uplink and its outcome. Results that the uplink forwards count as published."""

    uplink: Uplink
    meter: Meter
    results: list[SentFrame] = field(default_factory=list)
    offered: int = 0
    connected: list[float] = field(default_factory=list)  # time (CLOCK_MONOTONIC) of each recovery from an error
    errors: list[tuple[float, str]] = field(default_factory=list)  # time (CLOCK_MONOTONIC) and text of each new error

    @property
    def ledger(self) -> Ledger:
        """The uplink's current account."""
        return Ledger.of(snapshot_json(self.meter.snapshot()))

    def counted(self, metric: str, **labels: str) -> int:
        """Return a counter with these labels, or its sum over all labels if none are given."""
        return int(self.meter.value(counter(metric), **labels) if labels else self.meter.total(counter(metric)))

    async def until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> float:
        """Wait until the condition is true. Return the time (CLOCK_MONOTONIC). Fail if the account does not balance."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert self.ledger.balanced, self.ledger
            assert time.monotonic() < end, f"not within {timeout_s} s: {self.ledger}, {self.uplink.error}"
            await asyncio.sleep(POLL_INTERVAL_S)
        return time.monotonic()

    async def answered(self, more: int = 1, timeout_s: float = PATIENCE_S) -> float:
        """Wait until the service has answered this many more frames."""
        wanted = self.ledger.answered + more
        return await self.until(lambda: self.ledger.answered >= wanted, timeout_s)


@contextlib.asynccontextmanager
async def feeding(
    url: str,
    *,
    fps: float = 20.0,
    timeouts: ClientTimeouts = QUICK,
    jpeg: bytes | None = None,
    jpeg_bytes: int = 20_000,
    reconnect_turn: ReconnectTurn | None = None,
    source_id: str = "lobby",
    key: str = KEY,
) -> AsyncIterator[Feed]:
    """Run an uplink with `fps` frames per second until the block ends. Then drain the uplink and check its account."""
    meter, slot = Meter(), LatestFrameSlot()

    def on_result(_result: NvisionRequest, sent: SentFrame) -> None:
        meter.count(catalogue.RESULTS_PUBLISHED_TOTAL)
        feed.results.append(sent)

    uplink = Uplink(
        service=ServiceEndpoint(url=f"{url}/v1/object-detection", key=key, options=RequestOptions(), direct=True),
        source_id=source_id,
        fps=fps,
        slot=slot,
        meter=meter,
        on_result=on_result,
        timeouts=timeouts,
        reconnect_turn=reconnect_turn,
    )
    feed = Feed(uplink=uplink, meter=meter)
    image = os.urandom(jpeg_bytes) if jpeg is None else jpeg

    async def feed_it() -> None:
        due, known = time.monotonic(), uplink.error
        while True:
            due += 1 / fps
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            due = max(due, now)  # on a busy machine, frames in a burst would overwrite each other
            frame = EncodedFrame(jpeg=image, width=640, height=360, captured_mono=now, captured_at=time.time())
            feed.offered += 1
            if slot.put(frame):
                meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="overwritten")
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
    # Each offered frame was sent or counted as dropped, except possibly one frame that remains in the slot.
    assert 0 <= feed.offered - feed.ledger.sent - feed.ledger.dropped.total() <= 1
