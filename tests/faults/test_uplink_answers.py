"""Case 35: the uplink counts each invalid result with a reason, and the stream continues."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nvision_hub.nvision.connection import ClientTimeouts
from tests.support.reliability import measured
from tests.support.uplinks import QUICK, feeding

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.recorder import Recorder

pytestmark = pytest.mark.fault
MAX_RESULT_BYTES = 100_000


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("garbage", "unreadable"),
        ("text", "unreadable"),
        ("not_a_number", "unreadable"),
        ("unknown_frame", "unknown_frame"),
        ("twice", "duplicate"),
        ("oversize", "too_large"),
        ("unknown_enum", None),
    ],
)
async def test_invalid_results_are_counted_and_the_stream_continues(
    recorder: Callable[..., Recorder], answer: str, reason: str | None
) -> None:
    service = recorder(answer=answer, oversize_bytes=2 * MAX_RESULT_BYTES)
    async with feeding(service.url, timeouts=replace(QUICK, max_result_bytes=MAX_RESULT_BYTES)) as feed:
        if reason is None:
            await feed.until(lambda: len(feed.results) >= 5)
            assert feed.counted("results_lost_total") == 0
        else:
            await feed.until(lambda: feed.counted("results_lost_total", reason=reason) >= 5)
            assert feed.counted("results_lost_total", reason=reason) == feed.counted("results_lost_total")
        invalid = feed.counted("results_lost_total")
        service.set_behavior(answer="detection")
        back = len(feed.results) + 5
        await feed.until(lambda: len(feed.results) >= back)
        reconnects = feed.counted("uplink_reconnects_total")
        assert feed.counted("uplink_reconnects_total", reason="bad_answer") == reconnects
        assert (reconnects > 0) == (answer == "oversize"), "the uplink must keep every usable connection"
    measured(
        35,
        f"service sends invalid results: {answer.replace('_', ' ')}",
        injected="scripted recording service",
        target="counted; no exit",
        measured=f"{invalid} counted as {reason}" if reason else "all published",
    )


@pytest.mark.long
async def test_a_service_that_skips_frames_does_not_slow_down_the_rest(
    recorder: Callable[..., Recorder],
) -> None:
    service = recorder(answer="half")
    async with feeding(service.url, fps=20, timeouts=ClientTimeouts()) as feed:
        await feed.answered(1)
        await feed.until(lambda: feed.offered >= 120)  # six seconds of frames; results may lag by two seconds
        assert len(feed.uplink._in_flight) > 40
        overwritten = feed.counted("frames_dropped_total")
    assert overwritten <= 0.1 * feed.offered
    measured(
        35,
        "service leaves every second frame unanswered",
        injected="scripted recording service",
        target="counted; no exit",
        measured=f"{feed.ledger.sent} sent at the full rate, {feed.ledger.unanswered.total()} counted as unanswered",
    )


async def test_a_late_result_is_counted_as_late(recorder: Callable[..., Recorder]) -> None:
    service = recorder(latency_s=0.6)
    # The uplink checks timeouts once a second. With a timeout of zero, it gives up frames before their results arrive.
    async with feeding(service.url, fps=10, timeouts=replace(QUICK, result_timeout_s=0.0)) as feed:
        await feed.until(lambda: feed.counted("results_lost_total", reason="late") >= 2)
        assert feed.counted("results_lost_total", reason="unknown_frame") == 0
    measured(
        35,
        "service answers late",
        injected="recording service with a latency",
        target="counted; no exit",
        measured="result counted as late and its frame as unanswered, once each",
    )
