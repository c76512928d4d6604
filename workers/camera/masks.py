"""Privacy masks: which pixels are blanked, told once for each size of picture. Knows planes, not codecs.

Whatever a polygon so much as touches is blanked, and one sample of each plane around it, since a sample of a scaled
picture is made of its neighbours, too. It is done before the picture is compressed, so nothing of what was hidden is in
the JPEG.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Point = tuple[float, float]
    Polygon = Sequence[Point]  # points as 0..1 of width and height
    Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
    Patch = tuple[tuple[slice, slice], NDArray[np.bool_]]  # rows and columns, and what is masked of them

BLACK: Final = (0, 128, 128)  # full-range luma, blue and red


class Masks:
    """One camera's. Falsy where it has none."""

    def __init__(self, polygons: Sequence[Polygon]) -> None:
        self._polygons = polygons
        self._size = (0, 0)
        self._luma: list[Patch] = []  # of each polygon, for that size
        self._chroma: list[Patch] = []

    def __bool__(self) -> bool:
        return bool(self._polygons)

    def blank(self, planes: Planes) -> None:
        """Blank what is masked in the planes of a full-range 4:2:0 picture, in place."""
        height, width = planes[0].shape
        if (width, height) != self._size:
            masks = [_grown(covered(polygon, width, height)) for polygon in self._polygons]
            self._luma = [patch for mask in masks for patch in _patch(mask)]
            self._chroma = [patch for mask in masks for patch in _patch(_grown(_halved(mask)))]
            self._size = width, height
        for plane, value, patches in zip(planes, BLACK, (self._luma, self._chroma, self._chroma), strict=True):
            for box, mask in patches:
                np.copyto(plane[box], value, where=mask)


def covered(polygon: Polygon, width: int, height: int) -> NDArray[np.bool_]:
    """Which pixels of a picture a polygon touches, shape (height, width). Where it crosses itself, all within counts.

    A pixel that it touches is crossed by a side, or lies inside as a whole, and then the middle of its row does.
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
    # Points on the line between two rows touch both.
    first, last = max(0, int(np.ceil(y0)) - 1), min(height - 1, int(y1))
    for row in range(first, last + 1):
        if y0 == y1:
            left, right = sorted((x0, x1))
        else:
            at = [x0 + (x1 - x0) * (min(max(y, y0), y1) - y0) / (y1 - y0) for y in (row, row + 1)]
            left, right = sorted(at)
        touched[row, max(0, int(np.ceil(left)) - 1) : min(width, int(right) + 1)] = True


def _touch_inside(touched: NDArray[np.bool_], sides: Sequence[tuple[Point, Point]]) -> None:
    top, bottom = min(y for (_, y), _ in sides), max(y for (_, y), _ in sides)
    for row in range(int(top), min(touched.shape[0], int(bottom) + 1)):
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


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With one pixel more on every side."""
    padded = np.pad(mask, 1)
    wide = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    return wide[:-2] | wide[1:-1] | wide[2:]


def _halved(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For planes of half the size: a sample for each two by two pixels of which one is masked."""
    height, width = mask.shape
    even = np.pad(mask, ((0, height % 2), (0, width % 2)))
    return even[::2, ::2] | even[1::2, ::2] | even[::2, 1::2] | even[1::2, 1::2]


def _patch(mask: NDArray[np.bool_]) -> list[Patch]:
    """The part of a mask that holds it all, so that blanking costs no more than its size; none where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return [(box, mask[box].copy())]
