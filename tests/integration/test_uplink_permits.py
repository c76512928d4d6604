"""A frame that waits for a permit of the budget is sent only while it is fresh and the camera is not paused."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from nvision_hub.budget.ledger_protocol import (
    SOCKET_NAME,
    ImageGranted,
    ImageReturned,
    RequestImage,
    WantImages,
    decode_line,
    encode_line,
)
from tests.support.uplinks import feeding
from workers.camera.image_permits import ImagePermits, LedgerAccess
from workers.camera.latest_frame import MAX_BEHIND_S, EncodedFrame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.recorder import Recorder
    from tests.support.uplinks import Feed

SILENT_FPS = 0.001  # the test offers all frames itself


class ManualLedger:
    """Ledger that grants an image when a test says so."""

    def __init__(self) -> None:
        self.requests = self.returned = 0
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        while line := await reader.readline():
            message = decode_line(line)
            self.requests += isinstance(message, RequestImage)
            self.returned += isinstance(message, ImageReturned)
        writer.close()

    def grant(self) -> None:
        assert self._writer is not None
        self._writer.write(encode_line(ImageGranted()))


@contextlib.asynccontextmanager
async def permits_of(ledger: ManualLedger, folder: Path) -> AsyncIterator[ImagePermits]:
    wanted = WantImages(camera="lobby", service="object-detection", fps=1.0, priority="normal")
    permits = ImagePermits(LedgerAccess(directory=folder, wanted=wanted))
    server = await asyncio.start_unix_server(ledger.serve, folder / SOCKET_NAME)
    running = asyncio.create_task(permits.run())
    yield permits
    running.cancel()
    await asyncio.wait({running})
    server.close()


def offer(feed: Feed, *, age_s: float = 0.0) -> None:
    now = time.monotonic()
    feed.offered += 1
    feed.uplink.slot.put(
        EncodedFrame(jpeg=b"jpeg", width=64, height=64, captured_mono=now - age_s, captured_at=time.time() - age_s)
    )


@pytest.mark.parametrize("reason", ["budget", "paused"])
async def test_a_frame_that_waited_too_long_is_dropped(
    recorder: Callable[..., Recorder], tmp_path: Path, reason: str
) -> None:
    ledger = ManualLedger()
    async with permits_of(ledger, tmp_path) as permits, feeding(recorder().url, fps=SILENT_FPS) as feed:
        feed.uplink.permits = permits
        offer(feed, age_s=MAX_BEHIND_S + 1 if reason == "budget" else 0)
        await feed.until(lambda: ledger.requests == 1)
        if reason == "paused":
            feed.uplink.set_paused(True)
            feed.uplink.set_paused(False)
        ledger.grant()
        await feed.until(lambda: ledger.returned == 1)
        assert feed.ledger.dropped == {reason: 1}
        offer(feed)
        await feed.until(lambda: ledger.requests == 2)
        ledger.grant()
        await feed.answered()
        assert (feed.ledger.sent, ledger.returned) == (1, 1)
