"""Planes of limited range (16 to 235, chroma to 240) as JPEG has them: 0 to 255 (ITU-T T.871; ITU-R BT.601, 2.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from nvision_hub import opencv

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]  # rows, columns
    Planes = tuple[Plane, Plane, Plane]  # luma and, of half its size, blue and red

_LUMA_GAIN: Final = 255 / (235 - 16)
_CHROMA_GAIN: Final = 255 / (240 - 16)
_SCALES: Final = (
    (_LUMA_GAIN, -16 * _LUMA_GAIN),
    (_CHROMA_GAIN, 128 - 128 * _CHROMA_GAIN),
    (_CHROMA_GAIN, 128 - 128 * _CHROMA_GAIN),
)


class Expansion:
    """One camera's. Keeps the planes it writes to: memory that is new for every picture costs half as much again."""

    def __init__(self, cv2: ModuleType) -> None:
        self._cv2: Any = cv2
        self._written: Planes | None = None

    @classmethod
    def of_opencv(cls) -> Self | None:
        """None where OpenCV is not loaded."""
        cv2 = opencv.loaded()
        return None if cv2 is None else cls(cv2)

    def expand(self, planes: Planes) -> Planes:
        """The planes in full range, until the next call."""
        if self._written is None or any(a.shape != b.shape for a, b in zip(self._written, planes, strict=True)):
            luma, blue, red = (np.empty(plane.shape, np.uint8) for plane in planes)
            self._written = (luma, blue, red)
        for plane, written, (gain, offset) in zip(planes, self._written, _SCALES, strict=True):
            # The one of its functions that scales, adds, rounds and saturates in one pass.
            self._cv2.addWeighted(plane, gain, plane, 0, offset, written)
        return self._written
