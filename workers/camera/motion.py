"""Whether something moves: small grey pictures in, verdicts out. Pure; knows neither packets nor decoders.

Each picture is compared with a background that follows what is seen: slowly while nothing moves, so that whoever
creeps is noticed, and quickly while something does, so that a car that has parked is no movement for long. What a
sensor's noise, a compression's pulse or a changed exposure make different is learned, or taken off, and does not count.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from workers.camera.masks import covered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workers.camera.masks import Polygon

STILL_FOLLOWS_S: Final = 20.0
MOVING_FOLLOWS_S: Final = 1.5
NOISE_FOLLOWS_S: Final = 30.0
NOISES: Final = 4.0  # a change within so many times what is usual for its pixel is none
# By sensitivity 0, 0.5 and 1: by how many of 256 levels a pixel has to change, and how much of the picture has to.
_LEVELS: Final = (48.0, 10.0, 4.0)
_SHARES: Final = (0.05, 0.0007, 0.0002)
_NEIGHBOURS: Final = 4  # of the nine pixels around one and itself: single ones are noise


class MotionGate:
    """One camera's eye."""

    def __init__(self, *, sensitivity: float, ignore: Sequence[Polygon] = ()) -> None:
        self._levels = _between(_LEVELS, sensitivity)
        self._share = _between(_SHARES, sensitivity)
        self._ignore = ignore
        self._background: NDArray[np.float32] | None = None
        self._noise: NDArray[np.float32] | None = None
        self._counts: NDArray[np.bool_] | None = None  # False where movement does not count
        self._at = 0.0

    def look(self, luma: NDArray[np.float32], at: float, *, moving: bool) -> bool:
        """Whether something has moved in a picture that was captured at `at` (seconds).

        `luma` has one value per pixel, 0..255, in any size; pictures of another size than the last begin anew.
        `moving` says how to follow: whether movement was seen lately.
        """
        if self._background is None or self._noise is None or self._background.shape != luma.shape:
            self._background, self._at = luma.copy(), at
            self._noise = np.zeros_like(luma)
            self._counts = self._watched(luma.shape[1], luma.shape[0])
            return False
        passed_s = max(0.0, at - self._at)
        self._at = at
        difference = luma - self._background
        # What all pixels have in common is the light, or the camera's exposure.
        difference -= np.median(difference)
        change = np.abs(difference)
        changed = change > np.maximum(self._levels, NOISES * self._noise)
        if self._counts is not None:
            changed &= self._counts
        moved = bool(np.count_nonzero(_dense(changed)) >= max(1.0, self._share * changed.size))
        self._background += _weight(passed_s, MOVING_FOLLOWS_S if moving else STILL_FOLLOWS_S) * (
            luma - self._background
        )
        if not moved and not moving:
            self._noise += _weight(passed_s, NOISE_FOLLOWS_S) * (change - self._noise)
        return moved

    def _watched(self, width: int, height: int) -> NDArray[np.bool_] | None:
        if not self._ignore:
            return None
        ignored = np.zeros((height, width), np.bool_)
        for polygon in self._ignore:
            ignored |= covered(polygon, width, height)
        watched: NDArray[np.bool_] = ~ignored
        return watched


def _between(values: tuple[float, float, float], sensitivity: float) -> float:
    """Interpolated by ratios: each step of sensitivity makes as much of a difference as the one before."""
    low, middle, high = (math.log(value) for value in values)
    if sensitivity < 0.5:  # noqa: PLR2004 - the middle
        return math.exp(low + (middle - low) * 2 * sensitivity)
    return math.exp(middle + (high - middle) * (2 * sensitivity - 1))


def _weight(passed_s: float, follows_s: float) -> float:
    return 1 - math.exp(-passed_s / follows_s)


def _dense(changed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels that have changed together with their neighbours."""
    padded = np.pad(changed, 1).view(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    dense: NDArray[np.bool_] = changed & (around >= _NEIGHBOURS)
    return dense
