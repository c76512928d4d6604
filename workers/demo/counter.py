"""Frame counter that is drawn into an image as black and white cells and can be read from the image.

The strip of cells runs along the top from the left corner to the center. The size of a cell is a fixed fraction of the
image, so the counter survives scaling (down to 320 pixels wide) and JPEG (down to quality 50). A clip of N frames has
the numbers 0 to N - 1. In a looping clip, the numbers restart at 0, and readers must allow for this.
"""

from __future__ import annotations

from binascii import crc32
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBER_BITS: Final = 20
LIMIT: Final = 1 << NUMBER_BITS  # first number that does not fit
_CELLS: Final = 2 + NUMBER_BITS + 8 + 2  # 2 calibration cells, the number, 8 check cells, 2 calibration cells
_COLUMNS: Final = 64  # cells per image width
_ROWS: Final = 36  # cells per image height, so that cells are square at 16:9
_MIN_CONTRAST: Final = 60  # in 8-bit levels; in limited range, black and white are 219 levels apart
_MAX_DEVIATION: Final = 0.25  # maximum difference of a cell from black or white, as a fraction of the contrast


def stamp(image: NDArray[np.uint8], number: int, *, levels: tuple[int, int] = (0, 255)) -> None:
    """Draw `number` (0 <= number < `LIMIT`) into `image` (height x width, with or without channels). Changes `image`.

    `levels` are the values of black and white. Raises `ValueError` for a number that does not fit.
    """
    if not 0 <= number < LIMIT:
        raise ValueError(f"a frame number must be between 0 and {LIMIT - 1}, not {number}")
    height, width = image.shape[:2]
    edges = [round(i * width / _COLUMNS) for i in range(_CELLS + 1)]
    for bit, (left, right) in zip(_cells(number), pairwise(edges), strict=True):
        image[: round(height / _ROWS), left:right] = levels[int(bit)]


def read(luma: NDArray[np.uint8]) -> int | None:
    """Return the number in a luma plane (height x width); None if the plane contains no intact counter."""
    height, width = luma.shape
    # Read only the center half of each cell, because scaling and JPEG blur the edges.
    strip = luma[round(height / _ROWS * 0.25) : max(1, round(height / _ROWS * 0.75))]
    edges = np.linspace(0, width * _CELLS / _COLUMNS, _CELLS * 4 + 1).round().astype(int)
    if strip.shape[0] == 0 or width < 2 * _COLUMNS:
        return None
    levels = np.array([strip[:, edges[i + 1] : edges[i + 3]].mean() for i in range(0, _CELLS * 4, 4)])
    white = (levels[0] + levels[-1]) / 2
    black = (levels[1] + levels[-2]) / 2
    if white - black < _MIN_CONTRAST:
        return None
    shades = ((levels - black) / (white - black)).clip(0, 1)
    bits = shades.round()
    if np.any(np.abs(shades - bits) > _MAX_DEVIATION):
        return None
    cells = "".join("1" if bit else "0" for bit in bits)
    number = int(cells[2 : 2 + NUMBER_BITS], 2)
    return number if cells == _cells(number) else None


def _cells(number: int) -> str:
    """Return the cells as binary digits (1 is white). A white and a black cell at each end calibrate the reader."""
    return f"10{number:0{NUMBER_BITS}b}{crc32(number.to_bytes(3)) & 0xFF:08b}01"
