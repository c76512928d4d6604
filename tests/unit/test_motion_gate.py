"""The eye: what is movement and what is noise, light, a tree, a car that has parked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import simplejpeg
from av.video.reformatter import ColorRange
from hypothesis import given
from hypothesis import strategies as st

from workers.camera.luma import small_luma
from workers.camera.motion import MotionGate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workers.camera.masks import Polygon

WIDE, HIGH = 160, 90


def scene(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(40, 200, (HIGH, WIDE)).astype(np.float32)


def noisy(picture: NDArray[np.float32], noise: float, seed: int) -> NDArray[np.float32]:
    return (picture + np.random.default_rng(seed).normal(0, noise, picture.shape)).astype(np.float32)


def with_person(
    picture: NDArray[np.float32], x: int, *, y: int = 50, tall: int = 16, by: float = 60
) -> NDArray[np.float32]:
    out = picture.copy()
    out[y : y + tall, max(0, x) : x + tall // 3] += by
    return out


def gate(sensitivity: float = 0.5, ignore: tuple[Polygon, ...] = ()) -> MotionGate:
    return MotionGate(sensitivity=sensitivity, ignore=ignore)


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.5])
def test_noise_is_no_movement(noise: float) -> None:
    eye = gate()
    assert not any(eye.look(noisy(scene(), noise, seed), 2.0 * seed, moving=False) for seed in range(100))


def test_whoever_appears_moves_wherever_it_is() -> None:
    for x in range(0, WIDE, 7):
        eye = gate()
        for second in range(5):
            eye.look(noisy(scene(), 1.0, second), second, moving=False)
        assert eye.look(noisy(with_person(scene(), x), 1.0, 99), 5, moving=False)


@given(steps=st.lists(st.floats(-30, 30), min_size=2, max_size=20))
def test_light_is_no_movement(steps: list[float]) -> None:
    eye = gate()
    assert not any(
        eye.look((scene() + step).astype(np.float32), 2.0 * at, moving=False) for at, step in enumerate(steps)
    )


def test_what_flickers_always_becomes_usual() -> None:
    """A tree, a screen: below what counts at once, and above what would count if the gate were not used to it."""
    eye = gate(sensitivity=0.9)
    leaves = scene()
    alarms = []
    for look in range(60):
        leaves[20:40, 20:60] = scene()[20:40, 20:60] + np.random.default_rng(look).normal(0, 2.5, (20, 40))
        alarms.append(eye.look(leaves, 2.0 * look, moving=False))
    assert not any(alarms[20:])
    assert eye.look(with_person(leaves, 100), 121, moving=False)


def test_what_has_come_to_rest_is_soon_no_movement() -> None:
    eye = gate()
    eye.look(scene(), 0, moving=False)
    parked = with_person(scene(), 80, tall=30)
    assert eye.look(parked, 2, moving=False)
    moved = [eye.look(parked, 2 + 0.4 * look, moving=True) for look in range(1, 30)]
    assert not any(moved[15:])
    assert eye.look(scene(), 20, moving=False), "that it goes again is movement"


def test_what_is_ignored_does_not_count() -> None:
    eye = gate(ignore=(((0, 0), (0.5, 0), (0.5, 1), (0, 1)),))
    eye.look(scene(), 0, moving=False)
    assert not eye.look(with_person(scene(), 30), 1, moving=False)
    assert eye.look(with_person(scene(), 100), 2, moving=False)


def test_sensitivity_is_a_scale() -> None:
    def seen(sensitivity: float) -> list[bool]:
        found = []
        for tall, by in ((6, 6), (6, 12), (9, 30), (16, 60), (60, 120)):
            eye = gate(sensitivity)
            eye.look(scene(), 0, moving=False)
            found.append(eye.look(with_person(scene(), 50, y=10, tall=tall, by=by), 1, moving=False))
        return found

    counts = [sum(seen(sensitivity)) for sensitivity in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] == 5


def test_pictures_of_another_size_begin_anew() -> None:
    eye = gate()
    eye.look(scene(), 0, moving=False)
    assert not eye.look(np.zeros((80, 120), np.float32), 1, moving=False)
    assert not eye.look(np.zeros((80, 120), np.float32), 2, moving=False)


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
def test_every_kind_of_picture_has_its_luma(
    size: tuple[int, int], made: Callable[[NDArray[np.uint8]], av.VideoFrame | NDArray[np.uint8] | bytes]
) -> None:
    luma = small_luma(made(gradient(*size)))
    assert luma is not None
    assert luma.dtype == np.float32
    assert luma.shape[1] <= 320
    expected = gradient(*size).mean(axis=0)
    middles = (np.arange(luma.shape[1]) + 0.5) * len(expected) / luma.shape[1]
    assert np.abs(luma.mean(axis=0) - np.interp(middles, np.arange(len(expected)), expected)).max() < 8


@pytest.mark.parametrize("broken", [b"", b"\xff\xd8\xff\xd9", b"no picture"])
def test_a_broken_jpeg_has_none(broken: bytes) -> None:
    assert small_luma(broken) is None
