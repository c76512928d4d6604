"""Which torn pictures are withheld."""

from __future__ import annotations

import random

from workers.camera.source.torn import TornPictures


def test_what_builds_on_a_torn_picture_is_withheld_until_the_next_keyframe() -> None:
    torn = TornPictures()
    withheld = [torn.withheld(corrupt=number == 60, keyframe=number % 50 == 0) for number in range(200)]
    assert withheld == [60 <= number < 100 for number in range(200)]


def test_a_keyframe_that_is_torn_itself_helps_nobody() -> None:
    torn = TornPictures()
    assert torn.withheld(corrupt=True, keyframe=True)
    assert torn.withheld(corrupt=False, keyframe=False)


def test_a_line_that_tears_every_group_is_shown_all_the_same() -> None:
    torn, random_ = TornPictures(), random.Random(1)  # noqa: S311 - the same at every run
    withheld = [torn.withheld(corrupt=random_.random() < 0.1, keyframe=number % 50 == 0) for number in range(5000)]
    assert sum(withheld) / len(withheld) < 0.06
    assert sum(withheld) > 100
