"""Capture times, calculated from media times and arrival times despite network delays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.media.decode.media_clock import MAX_BACK_S, WINDOW_S, MediaClock

STEP = 0.04


def test_a_stream_without_timestamps_uses_arrival_times() -> None:
    clock = MediaClock()
    assert clock.update(None, 12.5) == 12.5
    assert clock.captured(None, 13.0) == 13.0
    assert clock.captured(5.0, 13.0) == 13.0  # no timestamp has been seen yet


@given(st.lists(st.floats(0, 0.5), min_size=50, max_size=200), st.floats(-1e6, 1e6))
def test_queueing_adds_age_and_the_shortest_delay_counts_as_none(delays: list[float], zero: float) -> None:
    clock = MediaClock()
    captured = []
    for number, delay in enumerate(delays):
        at = clock.update(number * STEP, zero + number * STEP + delay)
        captured.append(at - zero - number * STEP)
    least = [min(delays[: number + 1]) for number in range(len(delays))]
    assert captured == pytest.approx(least, abs=1e-6)


def test_age_grows_with_a_backlog_and_recovers_after_it() -> None:
    clock = MediaClock()
    for number in range(50):
        clock.update(number * STEP, number * STEP)
    ages = [
        8.0 - clock.update(number * STEP, 8.0) for number in range(50, 200)
    ]  # six seconds of packets arrive at once
    assert ages[0] == pytest.approx(6.0)
    assert ages[-1] == pytest.approx(8.0 - 199 * STEP)


@pytest.mark.parametrize("ppm", [-500, 500])
def test_clock_drift_is_followed(ppm: int) -> None:
    clock = MediaClock()
    for number in range(25 * 3600):
        arrival = number * STEP
        age = arrival - clock.update(arrival * (1 + ppm / 1e6), arrival)
    assert -0.001 < age < 2 * WINDOW_S * 500 / 1e6 + 0.001


@pytest.mark.parametrize("jump", [-7000.0, -MAX_BACK_S - 0.1, 3.0, 3600.0, 2**32 / 90000])
def test_a_clock_step_is_followed_immediately(jump: float) -> None:
    clock = MediaClock()
    for number in range(50):
        clock.update(number * STEP, number * STEP)
    for number in range(50, 100):
        assert clock.update(number * STEP + jump, number * STEP) == pytest.approx(number * STEP)


@pytest.mark.parametrize("behind", [0.002, 0.1, 0.5])
def test_a_queue_that_never_empties_is_not_mistaken_for_delay(behind: float) -> None:
    """A machine that is slightly too slow never waits for a packet, so its queue is never empty."""
    clock = MediaClock()
    for number in range(25 * 600):
        media = number * STEP
        arrival = media * (1 + behind)
        age = arrival - clock.update(media, arrival, waited_s=0.1 * STEP)
        assert age == pytest.approx(arrival - media)


def test_a_longer_route_is_accepted_after_two_windows() -> None:
    """If packets stay late although the reader waits for them, the delay comes from the route and not from a queue."""
    clock = MediaClock()
    last = round((3 * WINDOW_S + 2) / STEP)
    for number in range(last):
        arrival = number * STEP
        age = arrival - clock.update(arrival if number < 50 else arrival - 0.9, arrival)
        if 50 <= number < 50 + WINDOW_S / STEP - 60:
            assert age == pytest.approx(0.9)
    assert age == pytest.approx(0.0)


def test_frames_in_decoding_order_are_no_jump() -> None:
    clock = MediaClock()
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    for turn in range(20):
        for place, number in enumerate(order):
            media = (turn * 10 + number) * STEP
            arrival = (turn * 10 + place) * STEP + 0.2
            at = clock.update(media, arrival)
            assert at == pytest.approx(media + 0.2, abs=0.13)


def test_a_frame_is_never_from_the_future() -> None:
    clock = MediaClock()
    clock.update(10.0, 100.0)
    assert clock.captured(10.5, 100.1) == 100.1
    assert clock.captured(9.9, 100.1) == pytest.approx(99.9)
