"""Answers that come by callback: they answer their pictures, through lost connections too, and hold nothing back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support.uplinks import feeding

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.recorder import Recorder
    from tests.support.uplinks import Feed


def sent(service: Recorder) -> list[str]:
    """The pictures that the service has, oldest first."""
    return [record.frame_id for record in service.received()]


def call_back(feed: Feed, frames: list[str]) -> None:
    feed.uplink.called_back([(frame, time.monotonic()) for frame in frames])


async def test_a_callback_answers_its_picture_once(recorder: Callable[..., Recorder]) -> None:
    service = recorder(answer="none")
    async with feeding(service.url) as feed:
        await feed.until(lambda: len(sent(service)) >= 5)
        first = sent(service)[:5]
        call_back(feed, [*first, *first, "", "stranger"])
        assert feed.ledger.answered == 5
        # From then on what stays without an answer is known to have none.
        await feed.until(lambda: feed.counted("frames_unanswered_total", reason="timeout") > 0)
        assert feed.counted("frames_unanswered_total", reason="callback") == 0
        assert feed.counted("results_received_total") == feed.counted("results_lost_total") == 0


@pytest.mark.long
async def test_callbacks_that_lag_hold_no_picture_back(recorder: Callable[..., Recorder]) -> None:
    service = recorder(answer="none")
    async with feeding(service.url, fps=20) as feed:
        await feed.until(lambda: len(sent(service)) >= 2)
        call_back(feed, sent(service)[:1])
        count = len(sent(service))
        await feed.until(lambda: len(sent(service)) >= count + 60)  # half as many again as may wait for the socket's
        assert feed.counted("frames_dropped_total", reason="overwritten") == 0


async def test_a_lost_connection_takes_no_callback_along(recorder: Callable[..., Recorder]) -> None:
    service = recorder(answer="none")
    async with feeding(service.url) as feed:
        await feed.until(lambda: len(sent(service)) >= 3)
        call_back(feed, sent(service)[:1])
        service.order(close_code=1012)
        await feed.until(lambda: feed.counted("uplink_reconnects_total") > 0)
        assert feed.counted("frames_unanswered_total", reason="uplink") == 0
        answered = feed.ledger.answered
        call_back(feed, sent(service)[-2:])
        assert feed.ledger.answered == answered + 2
        service.order(close_code=None)


async def test_where_answers_come_on_the_stream_again_the_old_rules_hold(recorder: Callable[..., Recorder]) -> None:
    service = recorder(answer="none")
    async with feeding(service.url) as feed:
        await feed.until(lambda: len(sent(service)) >= 3)
        call_back(feed, sent(service)[:1])
        service.order(answer="detection")
        await feed.answered(3)
        service.order(answer="none")
        await feed.until(lambda: feed.ledger.in_flight > 0)
        service.order(close_code=1012)
        await feed.until(lambda: feed.counted("frames_unanswered_total", reason="uplink") > 0)
        service.order(close_code=None)
