"""Which frames the filter for corrupt frames withholds."""

from __future__ import annotations

import random

from nvision_hub.media.decode.corrupt_frames import CorruptFrameFilter


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
