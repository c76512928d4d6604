"""Privacy masks, which blank pixels in the planes of a frame before the frame is compressed.

A mask blanks every pixel that its polygon touches. In each plane, it also blanks one more sample on every side, because
scaling mixes neighboring samples. The JPEG therefore contains nothing of the hidden area. The set of masked pixels is
recomputed only when the frame size changes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Point = tuple[float, float]
    Polygon = Sequence[Point]  # points as fractions (0..1) of width and height
    Plane = NDArray[np.uint8]  # array of shape (height, width)
    Planes = tuple[Plane, Plane, Plane]  # luma, blue and red planes; blue and red have half of luma's width and height
    Patch = tuple[tuple[slice, slice], NDArray[np.bool_]]  # rows and columns of a box, and the masked pixels in the box

BLACK: Final = (0, 128, 128)  # blank pixel in full-range luma, blue and red


class Masks:
    """Privacy masks of one camera; falsy if the camera has no masks."""

    def __init__(self, polygons: Sequence[Polygon]) -> None:
        self._polygons = polygons
        self._size = (0, 0)
        self._luma: list[Patch] = []  # at most one patch per polygon, for the frame size `_size`
        self._chroma: list[Patch] = []

    def __bool__(self) -> bool:
        return bool(self._polygons)

    def blank(self, planes: Planes) -> None:
        """Blank the masked pixels in the planes of a full-range 4:2:0 frame. Changes the planes in place."""
        height, width = planes[0].shape
        if (width, height) != self._size:
            masks = [_grow(covered(polygon, width, height)) for polygon in self._polygons]
            self._luma = [patch for mask in masks for patch in _patch(mask)]
            self._chroma = [patch for mask in masks for patch in _patch(_grow(_halve(mask)))]
            self._size = width, height
        for plane, value, patches in zip(planes, BLACK, (self._luma, self._chroma, self._chroma), strict=True):
            for box, mask in patches:
                np.copyto(plane[box], value, where=mask)


def covered(polygon: Polygon, width: int, height: int) -> NDArray[np.bool_]:
    """Return an array of shape (height, width) that is True for each pixel that a polygon touches.

    A polygon touches a pixel if a side of the polygon crosses the pixel or if the pixel lies inside. A pixel that no
    side crosses lies entirely inside or outside, so a test of its center is enough. Self-crossing polygons follow the
    nonzero winding rule.
    """
    touched = np.zeros((height, width), np.bool_)
    points = [(x * width, y * height) for x, y in polygon]
    sides = list(zip(points, points[1:] + points[:1], strict=True))
    for begin, end in sides:
        _touch_side(touched, begin, end)
    _touch_inside(touched, sides)
    return touched


def _touch_side(touched: NDArray[np.bool_], begin: Point, end: Point) -> None:
    height, width = touched.shape
    (x0, y0), (x1, y1) = sorted((begin, end), key=lambda point: point[1])
    # A point on the boundary between two rows touches both rows.
    first, last = max(0, int(np.ceil(y0)) - 1), min(height - 1, int(y1))
    for row in range(first, last + 1):
        left, right = sorted((x0, x1) if y0 == y1 else np.interp((row, row + 1), (y0, y1), (x0, x1)))
        touched[row, max(0, int(np.ceil(left)) - 1) : min(width, int(right) + 1)] = True


def _touch_inside(touched: NDArray[np.bool_], sides: Sequence[tuple[Point, Point]]) -> None:
    for row in range(touched.shape[0]):
        middle = row + 0.5
        crossings = sorted(
            (x0 + (x1 - x0) * (middle - y0) / (y1 - y0), 1 if y1 > y0 else -1)
            for (x0, y0), (x1, y1) in sides
            if (y0 <= middle) != (y1 <= middle)
        )
        winding = 0
        for (left, turn), (right, _) in pairwise(crossings):
            winding += turn
            if winding:
                touched[row, max(0, int(left)) : max(0, int(np.ceil(right)))] = True


def _grow(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow a mask by one pixel on every side."""
    padded = np.pad(mask, 1)
    wide = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    return wide[:-2] | wide[1:-1] | wide[2:]


def _halve(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask at half the width and height. A sample is masked if any of its four pixels is masked."""
    height, width = mask.shape
    even = np.pad(mask, ((0, height % 2), (0, width % 2)))
    return even[::2, ::2] | even[1::2, ::2] | even[::2, 1::2] | even[1::2, 1::2]


def _patch(mask: NDArray[np.bool_]) -> list[Patch]:
    """Return a mask cropped to its bounding box, which makes blanking cheaper; no patch if nothing is masked."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return [(box, mask[box].copy())]
