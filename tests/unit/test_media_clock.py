"""When a picture was captured: told from media times and arrivals, whatever the network does in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.camera.media_clock import BACK_S, WINDOW_S, MediaClock

STEP = 0.04


def test_a_stream_without_times_is_taken_as_it_comes() -> None:
    clock = MediaClock()
    assert clock.note(None, 12.5) == 12.5
    assert clock.captured(None, 13.0) == 13.0
    assert clock.captured(5.0, 13.0) == 13.0  # nothing is known of its times yet


@given(st.lists(st.floats(0, 0.5), min_size=50, max_size=200), st.floats(-1e6, 1e6))
def test_queueing_shows_as_age_and_the_shortest_delay_is_none(delays: list[float], zero: float) -> None:
    clock = MediaClock()
    captured = []
    for number, delay in enumerate(delays):
        at = clock.note(number * STEP, zero + number * STEP + delay)
        captured.append(at - zero - number * STEP)
    least = [min(delays[: number + 1]) for number in range(len(delays))]
    assert captured == pytest.approx(least, abs=1e-6)


def test_a_backlog_grows_old_and_is_young_again_once_it_is_through() -> None:
    clock = MediaClock()
    for number in range(50):
        clock.note(number * STEP, number * STEP)
    ages = [8.0 - clock.note(number * STEP, 8.0) for number in range(50, 200)]  # six seconds of packets at once
    assert ages[0] == pytest.approx(6.0)
    assert ages[-1] == pytest.approx(8.0 - 199 * STEP)


@pytest.mark.parametrize("ppm", [-500, 500])
def test_a_crystal_that_runs_off_is_followed(ppm: int) -> None:
    clock = MediaClock()
    for number in range(25 * 3600):
        arrival = number * STEP
        age = arrival - clock.note(arrival * (1 + ppm / 1e6), arrival)
    assert -0.001 < age < 2 * WINDOW_S * 500 / 1e6 + 0.001


@pytest.mark.parametrize("jump", [-7000.0, -BACK_S - 0.1, 3.0, 3600.0, 2**32 / 90000])
def test_a_clock_that_was_set_is_believed_at_once(jump: float) -> None:
    clock = MediaClock()
    for number in range(50):
        clock.note(number * STEP, number * STEP)
    for number in range(50, 100):
        assert clock.note(number * STEP + jump, number * STEP) == pytest.approx(number * STEP)


@pytest.mark.parametrize("behind", [0.002, 0.1, 0.5])
def test_a_queue_that_never_empties_is_not_believed(behind: float) -> None:
    """A machine that is too slow by a little, and never waits for a packet."""
    clock = MediaClock()
    for number in range(25 * 600):
        media = number * STEP
        arrival = media * (1 + behind)
        age = arrival - clock.note(media, arrival, waited_s=0.1 * STEP)
        assert age == pytest.approx(arrival - media)


def test_a_longer_way_is_believed_after_two_windows() -> None:
    """A step back that could be reordering, or a route that became longer: lasting lateness is no queue."""
    clock = MediaClock()
    last = round((3 * WINDOW_S + 2) / STEP)
    for number in range(last):
        arrival = number * STEP
        age = arrival - clock.note(arrival if number < 50 else arrival - 0.9, arrival)
        if 50 <= number < 50 + WINDOW_S / STEP - 60:
            assert age == pytest.approx(0.9)
    assert age == pytest.approx(0.0)


def test_pictures_in_decoding_order_are_no_jump() -> None:
    clock = MediaClock()
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    for turn in range(20):
        for place, number in enumerate(order):
            media = (turn * 10 + number) * STEP
            arrival = (turn * 10 + place) * STEP + 0.2
            at = clock.note(media, arrival)
            assert at == pytest.approx(media + 0.2, abs=0.13)


def test_a_picture_is_never_from_the_future() -> None:
    clock = MediaClock()
    clock.note(10.0, 100.0)
    assert clock.captured(10.5, 100.1) == 100.1
    assert clock.captured(9.9, 100.1) == pytest.approx(99.9)
