"""The warning about late frames: when it appears, and which cause it names."""

from __future__ import annotations

import pytest

from nvision_hub.media.decode.lag_monitor import WINDOW_S, LagMonitor

PERIOD_S = 0.2


def play(*, seconds: float, lost: float, late_s: float, waiting: float, lag: LagMonitor | None = None) -> LagMonitor:
    """Play five frames per second. `lost` is a share of the frames, and `waiting` is a share of the time."""
    lag = lag or LagMonitor()
    due = 0.0
    for number in range(round(seconds / PERIOD_S)):
        lag.add_packet(
            arrived=1000 + number * PERIOD_S,
            late_s=late_s,
            waited_s=waiting * PERIOD_S,
            worked_s=(1 - waiting) * PERIOD_S,
        )
        due += lost
        if due >= 1:
            due -= 1
            lag.add_lost()
        else:
            lag.add_sent()
    return lag


def test_the_start_gives_no_warning() -> None:
    assert LagMonitor().warning() is None


@pytest.mark.parametrize("lost", [0.0, 0.04])
def test_few_late_frames_give_no_warning(lost: float) -> None:
    assert play(seconds=30, lost=lost, late_s=1.2, waiting=0.1).warning() is None


def test_a_single_late_frame_gives_no_warning() -> None:
    assert play(seconds=2, lost=0.1, late_s=1.2, waiting=0.1).warning() is None


def test_a_machine_that_never_waits_is_reported_as_too_busy() -> None:
    warning = play(seconds=20, lost=0.5, late_s=0.8, waiting=0.02).warning()
    assert warning is not None
    assert warning.startswith("this machine is too busy: 50 % of the due frames are not decoded in time")


def test_waiting_for_late_packets_blames_the_network() -> None:
    warning = play(seconds=20, lost=0.5, late_s=1.4, waiting=0.9).warning()
    assert warning is not None
    assert "check the network" in warning


def test_only_the_time_behind_counts() -> None:
    """A machine that keeps up spends most of its time waiting for packets, so this time must not count."""
    lag = play(seconds=5, lost=0.0, late_s=0.01, waiting=0.9)
    play(seconds=5, lost=0.8, late_s=0.9, waiting=0.0, lag=lag)
    warning = lag.warning()
    assert warning is not None
    assert "too busy" in warning


def test_the_warning_ends_after_two_windows() -> None:
    lag = play(seconds=WINDOW_S, lost=0.5, late_s=0.8, waiting=0.0)
    for number in range(3):
        at = 1000 + (number + 1) * WINDOW_S
        lag.add_packet(arrived=at, late_s=0.0, waited_s=0.03, worked_s=0.01)
        lag.add_sent()
    assert lag.warning() is None
