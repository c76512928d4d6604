"""Motion detection on small gray frames. Performs no I/O, and imports neither packets nor decoders.

The detector compares each frame with a background that follows the scene. Without motion, the background follows
slowly, so the detector notices a person who moves slowly. During motion, the background follows quickly, so a car that
has parked soon stops counting as motion. The detector learns the usual noise of each pixel, and ignores brightness
changes that all pixels share.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import simplejpeg

from nvision_hub.media.encode.privacy_masks import covered

if TYPE_CHECKING:
    from collections.abc import Sequence

    import av
    from numpy.typing import NDArray

    from nvision_hub.media.encode.privacy_masks import Polygon

# Time constants for adapting the background and the learned noise of each pixel to the scene.
_IDLE_FOLLOWS_S: Final = 20.0
_MOVING_FOLLOWS_S: Final = 1.5
_NOISE_FOLLOWS_S: Final = 30.0
_NOISE_FACTOR: Final = 4.0  # a change below this multiple of the pixel's usual noise counts as noise
# Thresholds at sensitivities 0, 0.5 and 1: the change in a pixel's luma (0..255), and the share of changed pixels.
_LEVELS: Final = (48.0, 10.0, 4.0)
_SHARES: Final = (0.05, 0.0007, 0.0002)
# Number of changed pixels required among a pixel and its eight neighbors, because single pixels are noise.
_NEIGHBORS: Final = 4
MIN_WIDTH: Final = 160  # minimum width after scaling, in pixels; narrower frames keep their size
# Samples per output pixel in each direction; the mean of 4 x 4 samples reduces the noise to a quarter.
_SAMPLES: Final = 4


class MotionDetector:
    def __init__(self, *, sensitivity: float, ignore: Sequence[Polygon] = ()) -> None:
        self._levels = _between(_LEVELS, sensitivity)
        self._share = _between(_SHARES, sensitivity)
        self._ignore = ignore
        self._background: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._noise = self._background
        self._ignored: NDArray[np.bool_] | np.bool_ = np.False_  # True for the pixels in which motion does not count
        self._at = 0.0

    def check(self, luma: NDArray[np.float32], at: float, *, is_moving: bool) -> bool:
        """Return whether something has moved in a frame captured at `at` (seconds).

        `luma` has shape (height, width) and values 0..255. A change of the frame size resets the background.
        `is_moving` says whether motion was detected recently. The background then follows faster.
        """
        if self._background.shape != luma.shape:
            self._background, self._noise, self._at = luma.copy(), np.zeros_like(luma), at
            height, width = luma.shape
            self._ignored = np.any([covered(polygon, width, height) for polygon in self._ignore], axis=0)
            return False
        passed_s = max(0.0, at - self._at)
        self._at = at
        difference = luma - self._background
        # A brightness change that all pixels share comes from the light or the exposure.
        difference -= np.median(difference)
        change = np.abs(difference)
        changed = (change > np.maximum(self._levels, _NOISE_FACTOR * self._noise)) & ~self._ignored
        has_moved = bool(np.count_nonzero(_dense(changed)) >= max(1.0, self._share * changed.size))
        self._background += _weight(passed_s, _MOVING_FOLLOWS_S if is_moving else _IDLE_FOLLOWS_S) * (
            luma - self._background
        )
        if not has_moved and not is_moving:
            self._noise += _weight(passed_s, _NOISE_FOLLOWS_S) * (change - self._noise)
        return has_moved


def _between(values: tuple[float, float, float], sensitivity: float) -> float:
    """Interpolate on a logarithmic scale between the values for sensitivities 0, 0.5 and 1."""
    return math.exp(np.interp(sensitivity, (0.0, 0.5, 1.0), np.log(values)))


def _weight(passed_s: float, time_constant_s: float) -> float:
    return 1 - math.exp(-passed_s / time_constant_s)


def _dense(changed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the changed pixels that have enough changed neighbors."""
    padded = np.pad(changed, 1).view(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    dense: NDArray[np.bool_] = changed & (around >= _NEIGHBORS)
    return dense


def small_luma(frame: av.VideoFrame | NDArray[Any] | bytes) -> NDArray[np.float32] | None:
    """Return the luma of a frame at reduced size; None for a broken JPEG.

    The array has shape (height, width) and values 0..255.
    """
    if isinstance(frame, bytes):
        try:
            plane = simplejpeg.decode_jpeg(
                frame, "GRAY", min_width=MIN_WIDTH, min_height=1, fastdct=True, fastupsample=True, strict=False
            )
        except ValueError:
            return None
        return _shrink(plane[:, :, 0])
    if isinstance(frame, np.ndarray):
        return _shrink(frame[:, :, 1])  # green contributes the most to luma
    has_luma_plane = frame.format.name.startswith(("yuv4", "yuvj4", "nv", "gray"))
    if frame.format.components[0].bits != 8 or frame.format.is_rgb or not has_luma_plane:  # noqa: PLR2004
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]
    return _shrink(np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:, : plane.width])


def _shrink(plane: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = plane.shape
    step = max(1, min(width // MIN_WIDTH, height))
    rows, columns = height // step, width // step
    offsets = range(0, step, max(1, step // _SAMPLES))
    total = np.zeros((rows, columns), np.uint32)
    for y in offsets:
        line = plane[y : rows * step : step]
        for x in offsets:
            total += line[:, x : columns * step : step]
    return np.multiply(total, 1 / len(offsets) ** 2, dtype=np.float32)
