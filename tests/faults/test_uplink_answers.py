"""Case 35: a service that talks rubbish. Each message is counted for what it is, and the stream goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.reliability import measured
from tests.support.uplinks import QUICK, feeding
from workers.camera.dial import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.recorder import Recorder

pytestmark = pytest.mark.fault
ANSWER_MAX_BYTES = 100_000


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
async def test_rubbish_is_counted_and_the_stream_goes_on(
    recorder: Callable[..., Recorder], answer: str, reason: str | None
) -> None:
    service = recorder(answer=answer, oversize_bytes=2 * ANSWER_MAX_BYTES)
    async with feeding(service.url, limits=replace(QUICK, answer_max_bytes=ANSWER_MAX_BYTES)) as feed:
        if reason is None:
            await feed.until(lambda: len(feed.results) >= 5)
            assert feed.counted("results_lost_total") == 0
        else:
            await feed.until(lambda: feed.counted("results_lost_total", reason=reason) >= 5, 20)
            assert feed.counted("results_lost_total", reason=reason) == feed.counted("results_lost_total")
        rubbish = feed.counted("results_lost_total")
        service.order(answer="detection")
        back = len(feed.results) + 5
        await feed.until(lambda: len(feed.results) >= back)
        reconnects = feed.counted("uplink_reconnects_total")
        assert feed.counted("uplink_reconnects_total", reason="bad_answer") == reconnects
        assert (reconnects > 0) == (answer == "oversize"), "no connection is given up that need not be"
    measured(
        35,
        f"service answers rubbish: {answer.replace('_', ' ')}",
        injected="recording service, by order",
        target="counted; no exit",
        measured=f"{rubbish} counted as {reason}" if reason else "all passed on",
    )


@pytest.mark.long
async def test_a_service_that_passes_pictures_over_does_not_slow_down_the_rest(
    recorder: Callable[..., Recorder],
) -> None:
    service = recorder(answer="half")
    async with feeding(service.url, fps=20, limits=Limits()) as feed:
        await feed.answered(1)
        await feed.until(lambda: feed.offered >= 120)  # six seconds; answers may lag by two
        assert len(feed.uplink._in_flight) > 40
        overwritten = feed.counted("frames_dropped_total")
    assert overwritten <= 0.1 * feed.offered
    measured(
        35,
        "service leaves every other picture unanswered",
        injected="recording service, by order",
        target="counted; no exit",
        measured=f"{feed.ledger.sent} sent at the full rate, {feed.ledger.unanswered.total()} counted as unanswered",
    )


async def test_an_answer_after_its_time_is_late_and_no_strangers(recorder: Callable[..., Recorder]) -> None:
    service = recorder(latency_s=0.6)
    # Looked at once a second: what is older than nothing at all is given up then, and answered after that.
    async with feeding(service.url, fps=10, limits=replace(QUICK, answer_s=0.0)) as feed:
        await feed.until(lambda: feed.counted("results_lost_total", reason="late") >= 2)
        assert feed.counted("results_lost_total", reason="unknown_frame") == 0
    measured(
        35,
        "service answers too late",
        injected="recording service with a latency",
        target="counted; no exit",
        measured="counted as late, its picture as unanswered, each once",
    )
