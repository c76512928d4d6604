"""The motion detector distinguishes motion from noise, changes of light, trees and parked cars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import simplejpeg
from av.video.reformatter import ColorRange
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.media.decode.motion_detector import MotionDetector, small_luma

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nvision_hub.media.encode.privacy_masks import Polygon

WIDE, HIGH = 160, 90


def scene(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(40, 200, (HIGH, WIDE)).astype(np.float32)


def noisy(frame: NDArray[np.float32], noise: float, seed: int) -> NDArray[np.float32]:
    return (frame + np.random.default_rng(seed).normal(0, noise, frame.shape)).astype(np.float32)


def with_person(
    frame: NDArray[np.float32], x: int, *, y: int = 50, tall: int = 16, by: float = 60
) -> NDArray[np.float32]:
    out = frame.copy()
    out[y : y + tall, max(0, x) : x + tall // 3] += by
    return out


def make_detector(sensitivity: float = 0.5, ignore: tuple[Polygon, ...] = ()) -> MotionDetector:
    return MotionDetector(sensitivity=sensitivity, ignore=ignore)


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.5])
def test_noise_is_no_motion(noise: float) -> None:
    detector = make_detector()
    assert not any(detector.check(noisy(scene(), noise, seed), 2.0 * seed, is_moving=False) for seed in range(100))


def test_an_appearing_person_is_motion_anywhere() -> None:
    for x in range(0, WIDE, 7):
        detector = make_detector()
        for second in range(5):
            detector.check(noisy(scene(), 1.0, second), second, is_moving=False)
        assert detector.check(noisy(with_person(scene(), x), 1.0, 99), 5, is_moving=False)


@given(steps=st.lists(st.floats(-30, 30), min_size=2, max_size=20))
def test_light_changes_are_no_motion(steps: list[float]) -> None:
    detector = make_detector()
    assert not any(
        detector.check((scene() + step).astype(np.float32), 2.0 * at, is_moving=False) for at, step in enumerate(steps)
    )


def test_constant_flicker_is_learned() -> None:
    """Without learning, the flicker of a tree or a screen would exceed the threshold again and again."""
    detector = make_detector(sensitivity=0.9)
    leaves = scene()
    alarms = []
    for second in range(60):
        leaves[20:40, 20:60] = scene()[20:40, 20:60] + np.random.default_rng(second).normal(0, 2.5, (20, 40))
        alarms.append(detector.check(leaves, 2.0 * second, is_moving=False))
    assert not any(alarms[20:])
    assert detector.check(with_person(leaves, 100), 121, is_moving=False)


def test_a_stopped_object_is_soon_no_motion() -> None:
    detector = make_detector()
    detector.check(scene(), 0, is_moving=False)
    parked = with_person(scene(), 80, tall=30)
    assert detector.check(parked, 2, is_moving=False)
    moved = [detector.check(parked, 2 + 0.4 * number, is_moving=True) for number in range(1, 30)]
    assert not any(moved[15:])
    assert detector.check(scene(), 20, is_moving=False), "an object that moves again is motion"


def test_ignored_areas_do_not_count() -> None:
    detector = make_detector(ignore=(((0, 0), (0.5, 0), (0.5, 1), (0, 1)),))
    detector.check(scene(), 0, is_moving=False)
    assert not detector.check(with_person(scene(), 30), 1, is_moving=False)
    assert detector.check(with_person(scene(), 100), 2, is_moving=False)


def test_a_higher_sensitivity_detects_at_least_as_much() -> None:
    def seen(sensitivity: float) -> list[bool]:
        found = []
        for tall, by in ((6, 6), (6, 12), (9, 30), (16, 60), (60, 120)):
            detector = make_detector(sensitivity)
            detector.check(scene(), 0, is_moving=False)
            found.append(detector.check(with_person(scene(), 50, y=10, tall=tall, by=by), 1, is_moving=False))
        return found

    counts = [sum(seen(sensitivity)) for sensitivity in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] == 5


def test_a_changed_frame_size_restarts_detection() -> None:
    detector = make_detector()
    detector.check(scene(), 0, is_moving=False)
    assert not detector.check(np.zeros((80, 120), np.float32), 1, is_moving=False)
    assert not detector.check(np.zeros((80, 120), np.float32), 2, is_moving=False)


def gradient(width: int, height: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.linspace(20, 230, width), (height, width)).astype(np.uint8)


def as_frame(pixel_format: str) -> Callable[[NDArray[np.uint8]], av.VideoFrame]:
    def make(gray: NDArray[np.uint8]) -> av.VideoFrame:
        pixels = np.repeat(gray[:, :, None], 3, axis=2)
        return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format=pixel_format, src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.JPEG
        )

    return make


@pytest.mark.parametrize("size", [(1920, 1080), (640, 360), (353, 287), (161, 90), (40, 30), (1, 1)])
@pytest.mark.parametrize(
    "made",
    [
        *(as_frame(name) for name in ("yuv420p", "yuvj422p", "yuv444p", "nv12", "yuv420p10le", "gray", "gbrp")),
        lambda gray: simplejpeg.encode_jpeg(np.ascontiguousarray(gray[:, :, None]), 95, "GRAY", "Gray"),
        lambda gray: np.repeat(gray[:, :, None], 3, axis=2),
    ],
)
def test_every_kind_of_frame_is_converted_to_luma(
    size: tuple[int, int], made: Callable[[NDArray[np.uint8]], av.VideoFrame | NDArray[np.uint8] | bytes]
) -> None:
    luma = small_luma(made(gradient(*size)))
    assert luma is not None
    assert luma.dtype == np.float32
    assert luma.shape[1] <= 320
    expected = gradient(*size).mean(axis=0)
    middles = (np.arange(luma.shape[1]) + 0.5) * len(expected) / luma.shape[1]
    assert np.abs(luma.mean(axis=0) - np.interp(middles, np.arange(len(expected)), expected)).max() < 8


@pytest.mark.parametrize("broken", [b"", b"\xff\xd8\xff\xd9", b"no image"])
def test_a_broken_jpeg_has_no_luma(broken: bytes) -> None:
    assert small_luma(broken) is None
