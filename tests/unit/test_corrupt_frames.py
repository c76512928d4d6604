"""Which frames the filter for corrupt frames withholds, and which frames build on lost packets."""

from __future__ import annotations

import random
from typing import NamedTuple

from nvision_hub.media.decode.corrupt_frames import CorruptFrameFilter, LossTracker, UnexplainedDamage


def test_frames_that_build_on_a_corrupt_one_are_withheld_until_the_next_keyframe() -> None:
    frames = CorruptFrameFilter()
    withheld = [frames.should_withhold(corrupt=number == 60, keyframe=number % 50 == 0) for number in range(200)]
    assert withheld == [60 <= number < 100 for number in range(200)]


def test_a_corrupt_keyframe_does_not_end_the_corruption() -> None:
    frames = CorruptFrameFilter()
    assert frames.should_withhold(corrupt=True, keyframe=True)
    assert frames.should_withhold(corrupt=False, keyframe=False)


def test_few_frames_are_withheld_if_every_gop_is_corrupt() -> None:
    frames, random_ = CorruptFrameFilter(), random.Random(1)  # noqa: S311 - the same at every run
    withheld = [
        frames.should_withhold(corrupt=random_.random() < 0.1, keyframe=number % 50 == 0) for number in range(5000)
    ]
    assert sum(withheld) / len(withheld) < 0.06
    assert sum(withheld) > 100


def test_only_a_few_frames_are_withheld_for_damage_without_losses() -> None:
    damage = UnexplainedDamage()
    withheld = [damage.may_withhold(damaged=True) for _ in range(5000)]
    assert all(withheld[:50])
    assert sum(withheld) / len(withheld) < 0.06


class Coded(NamedTuple):
    """A coded frame. `pts` is its place in the order of presentation."""

    pts: int
    keyframe: bool = False
    is_incomplete: bool = False
    follows_loss: bool = False


def torn(coded: list[Coded]) -> list[int]:
    """Return the frames that build on lost packets. `coded` is in decoding order."""
    losses = LossTracker()
    for each in coded:
        losses.push(each.pts, is_entry=each.keyframe, is_incomplete=each.is_incomplete, follows_loss=each.follows_loss)
    return [pts for pts in sorted(each.pts for each in coded) if losses.pop(pts)]


def test_frames_after_a_loss_are_torn_until_the_next_keyframe() -> None:
    assert torn([Coded(number, number % 5 == 0, follows_loss=number == 7) for number in range(15)]) == [7, 8, 9]
    lost_part = [Coded(number, number % 5 == 0, is_incomplete=number == 5) for number in range(15)]
    assert torn(lost_part) == [5, 6, 7, 8, 9]


def test_a_keyframe_after_a_loss_is_whole() -> None:
    assert torn([Coded(0, keyframe=True), Coded(5, keyframe=True, follows_loss=True), Coded(6)]) == []


def test_frames_before_the_keyframe_of_an_open_gop_build_on_the_loss() -> None:
    first, second = [Coded(0, keyframe=True), Coded(1, follows_loss=True)], [Coded(5, keyframe=True)]
    assert torn([*first, *second, Coded(3), Coded(4), Coded(8), Coded(7)]) == [1, 3, 4]
