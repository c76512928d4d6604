"""Callbacks answer their frames, even after a lost connection, and slow callbacks delay no frame."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from nvision_hub.budget.ledger_protocol import (
    SOCKET_NAME,
    ImageGranted,
    ImageSent,
    RequestImage,
    WantImages,
    decode_line,
    encode_line,
)
from nvision_hub.runtime.messages import AnsweredFrame
from tests.support.uplinks import feeding
from workers.camera.image_permits import ImagePermits, LedgerAccess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.recorder import Recorder
    from tests.support.uplinks import Feed


def sent(service: Recorder) -> list[str]:
    """Return the ids of the frames that the service has received, oldest first."""
    return [record.frame_id for record in service.received()]


def call_back(feed: Feed, frames: list[str]) -> None:
    feed.uplink.on_callback([AnsweredFrame(frame_id=frame, at=time.monotonic()) for frame in frames])


async def test_a_callback_answers_its_frame_once(recorder: Callable[..., Recorder]) -> None:
    service = recorder(answer="none")
    async with feeding(service.url) as feed:
        await feed.until(lambda: len(sent(service)) >= 5)
        first = sent(service)[:5]
        call_back(feed, [*first, *first, "", "stranger"])
        assert feed.ledger.answered == 5
        # After the first callback, frames without a callback count as unanswered after a timeout.
        await feed.until(lambda: feed.counted("frames_unanswered_total", reason="timeout") > 0)
        assert feed.counted("frames_unanswered_total", reason="callback") == 0
        assert feed.counted("results_received_total") == feed.counted("results_lost_total") == 0


async def test_a_callback_reports_to_the_ledger_when_its_frame_arrived(
    recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    """Otherwise, the ledger counts each image in `images_per_second` for two more seconds."""
    reports: list[ImageSent] = []

    async def grant_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            match decode_line(line):
                case RequestImage():
                    writer.write(encode_line(ImageGranted()))
                case ImageSent() as report:
                    reports.append(report)
        writer.close()

    service = recorder(answer="none")
    wanted = WantImages(camera="lobby", service="object-detection", fps=20.0, priority="normal")
    permits = ImagePermits(LedgerAccess(directory=tmp_path, wanted=wanted))
    server = await asyncio.start_unix_server(grant_all, tmp_path / SOCKET_NAME)
    running = asyncio.create_task(permits.run())
    async with feeding(service.url) as feed:
        feed.uplink.permits = permits
        await feed.until(lambda: len(sent(service)) >= 3)
        call_back(feed, sent(service)[-2:])
        await feed.until(lambda: any(report.age_s > 0 for report in reports))  # a report without a result has no age
    running.cancel()
    await asyncio.wait({running})
    server.close()


@pytest.mark.long
async def test_slow_callbacks_delay_no_frame(recorder: Callable[..., Recorder]) -> None:
    service = recorder(answer="none")
    async with feeding(service.url, fps=20) as feed:
        await feed.until(lambda: len(sent(service)) >= 2)
        call_back(feed, sent(service)[:1])
        count = len(sent(service))
        await feed.until(lambda: len(sent(service)) >= count + 60)  # 1.5 times the maximum of frames in flight
        assert feed.counted("frames_dropped_total", reason="overwritten") == 0


async def test_a_lost_connection_loses_no_callback(recorder: Callable[..., Recorder]) -> None:
    service = recorder(answer="none")
    async with feeding(service.url) as feed:
        await feed.until(lambda: len(sent(service)) >= 3)
        call_back(feed, sent(service)[:1])
        service.set_behavior(close_code=1012)
        await feed.until(lambda: feed.counted("uplink_reconnects_total") > 0)
        assert feed.counted("frames_unanswered_total", reason="uplink") == 0
        answered = feed.ledger.answered
        call_back(feed, sent(service)[-2:])
        assert feed.ledger.answered == answered + 2
        service.set_behavior(close_code=None)


async def test_results_on_the_stream_restore_the_stream_rules(recorder: Callable[..., Recorder]) -> None:
    service = recorder(answer="none")
    async with feeding(service.url) as feed:
        await feed.until(lambda: len(sent(service)) >= 3)
        call_back(feed, sent(service)[:1])
        service.set_behavior(answer="detection")
        await feed.answered(3)
        service.set_behavior(answer="none")
        await feed.until(lambda: feed.ledger.in_flight > 0)
        service.set_behavior(close_code=1012)
        await feed.until(lambda: feed.counted("frames_unanswered_total", reason="uplink") > 0)
        service.set_behavior(close_code=None)
