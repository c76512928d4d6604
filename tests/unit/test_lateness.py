"""Who is to blame for pictures that are late, and from when on it is said."""

from __future__ import annotations

import pytest

from workers.camera.lateness import WINDOW_S, Lateness

PERIOD_S = 0.2


def play(*, seconds: float, lost: float, late_s: float, waiting: float, lateness: Lateness | None = None) -> Lateness:
    """A camera of five pictures a second; of them a share is lost, and of its time a share is spent waiting."""
    lateness = lateness or Lateness()
    owed = 0.0
    for number in range(round(seconds / PERIOD_S)):
        lateness.turn(
            arrived=1000 + number * PERIOD_S,
            late_s=late_s,
            waited_s=waiting * PERIOD_S,
            worked_s=(1 - waiting) * PERIOD_S,
        )
        owed += lost
        if owed >= 1:
            owed -= 1
            lateness.lost()
        else:
            lateness.made()
    return lateness


def test_nothing_is_said_before_anything_happened() -> None:
    assert Lateness().sentence() is None


@pytest.mark.parametrize("lost", [0.0, 0.04])
def test_few_late_pictures_are_not_worth_a_sentence(lost: float) -> None:
    assert play(seconds=30, lost=lost, late_s=1.2, waiting=0.1).sentence() is None


def test_one_late_picture_is_an_accident() -> None:
    assert play(seconds=2, lost=0.1, late_s=1.2, waiting=0.1).sentence() is None


def test_a_machine_that_never_waits_is_too_busy() -> None:
    sentence = play(seconds=20, lost=0.5, late_s=0.8, waiting=0.02).sentence()
    assert sentence is not None
    assert sentence.startswith("this machine is too busy: 50 % of the pictures owed are not decoded in time")


def test_whoever_waits_for_late_packets_is_not_to_blame() -> None:
    sentence = play(seconds=20, lost=0.5, late_s=1.4, waiting=0.9).sentence()
    assert sentence is not None
    assert "check the network" in sentence


def test_time_spent_in_step_with_the_camera_blames_nobody() -> None:
    """It waits for most packets, as everybody does; what counts is what it does while it is behind."""
    lateness = play(seconds=5, lost=0.0, late_s=0.01, waiting=0.9)
    play(seconds=5, lost=0.8, late_s=0.9, waiting=0.0, lateness=lateness)
    sentence = lateness.sentence()
    assert sentence is not None
    assert "too busy" in sentence


def test_what_is_over_is_forgotten() -> None:
    lateness = play(seconds=WINDOW_S, lost=0.5, late_s=0.8, waiting=0.0)
    for number in range(3):
        at = 1000 + (number + 1) * WINDOW_S
        lateness.turn(arrived=at, late_s=0.0, waited_s=0.03, worked_s=0.01)
        lateness.made()
    assert lateness.sentence() is None
