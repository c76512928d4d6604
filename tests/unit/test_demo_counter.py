"""The frame counter in demo clips: reading a frame returns the stamped number or None."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.counter import Push, Unwrapper
from workers.demo import counter
from workers.demo import worker as demo
from workers.demo.scene import FRAMES, LOOP_S, SCENES

SIZES = ((1920, 1080), (1280, 720), (704, 576), (640, 360))


def noise(seed: int, width: int, height: int) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def luma_of(jpeg: bytes) -> np.ndarray:
    return np.asarray(simplejpeg.decode_jpeg(jpeg, "GRAY"))[:, :, 0]


@settings(deadline=None, max_examples=60)
@given(
    number=st.integers(0, counter.LIMIT - 1),
    size=st.sampled_from(SIZES),
    width=st.sampled_from((None, 640, 400)),
    quality=st.integers(60, 95),
    seed=st.integers(0, 1000),
)
def test_number_survives_scaling_and_jpeg(
    number: int, size: tuple[int, int], width: int | None, quality: int, seed: int
) -> None:
    image = noise(seed, *size)
    counter.stamp(image, number)
    if width is not None:
        scaled = cv2.resize(image, (width, round(size[1] * width / size[0])), interpolation=cv2.INTER_LINEAR)
        image = np.asarray(scaled, np.uint8)
    assert counter.read(luma_of(simplejpeg.encode_jpeg(image, quality, "BGR", "420"))) == number


@settings(deadline=None, max_examples=60)
@given(number=st.integers(0, counter.LIMIT - 1), cell=st.integers(0, 31), seed=st.integers(0, 1000))
def test_a_damaged_strip_is_never_read_as_another_number(number: int, cell: int, seed: int) -> None:
    luma = noise(seed, 1280, 720)[:, :, 0].copy()
    counter.stamp(luma, number)
    luma[:20, cell * 20 : cell * 20 + 20] = 255 - luma[:20, cell * 20 : cell * 20 + 20]
    assert counter.read(luma) is None


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 100_000))
def test_an_image_without_a_strip_has_no_number(seed: int) -> None:
    assert counter.read(noise(seed, 640, 360)[:, :, 0]) is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_image_has_no_number(level: int) -> None:
    assert counter.read(np.full((360, 640), level, np.uint8)) is None


def test_an_image_too_small_for_a_strip_has_no_number() -> None:
    assert counter.read(np.zeros((10, 20), np.uint8)) is None


@pytest.mark.parametrize("number", [-1, counter.LIMIT])
def test_a_number_out_of_range_is_rejected(number: int) -> None:
    with pytest.raises(ValueError, match="must be between"):
        counter.stamp(np.zeros((360, 640), np.uint8), number)


def test_unwrapping_follows_a_looping_clip() -> None:
    sent = [Push(serial=serial, number=serial % 10, at=float(serial)) for serial in range(100)]
    seen = Unwrapper(sent)
    assert seen.find(4, 37.5).serial == 34  # the last frame with number 4 before 37.5
    assert [seen.find(number, 99).serial for number in (9, 2, 1, 0)] == [39, 42, 51, 60]
    with pytest.raises(LookupError):
        Unwrapper(sent).find(11, 50)


def test_every_named_scene_can_be_drawn() -> None:
    assert tuple(SCENES) == demo.SCENES


@pytest.mark.parametrize("name", demo.SCENES)
def test_a_scene_loops_without_a_seam(name: str) -> None:
    """The last image differs from the first image only as much as consecutive images differ."""
    scene = SCENES[name]
    backdrop = scene.backdrop()
    images = []
    for number in (FRAMES - 2, FRAMES - 1, FRAMES, FRAMES + 1):
        image = backdrop.copy()
        scene.draw(image, number)
        images.append(image.astype(np.int16))
    before, seam, after = (float(np.abs(b - a).mean()) for a, b in pairwise(images))
    assert seam < 1.5 * max(before, after) + 0.01
    first = backdrop.copy()
    scene.draw(first, 0)
    assert np.array_equal(first, images[2].astype(np.uint8))


@pytest.mark.parametrize("name", demo.SCENES)
def test_every_path_starts_and_ends_out_of_sight(name: str) -> None:
    """Actors that start or end in view appear or vanish suddenly. A path longer than two loops would be cut off."""
    for actor in SCENES[name].actors:
        start, end = actor.path[0], actor.path[-1]
        assert 0 <= start[0] < LOOP_S
        assert end[0] < 2 * LOOP_S
        assert not 0 <= end[1] < 1280
