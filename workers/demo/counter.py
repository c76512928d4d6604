"""A picture's number, burnt into it as black and white cells and read back from what is left of it.

Knows nothing of video or files: numbers into arrays, arrays into numbers. The strip lies along the top, from the left
corner to the middle, and its cells are a fixed share of the picture, so it survives scaling (down to 320 pixels wide)
and JPEG (down to quality 50). A clip of N pictures is numbered from 0 to N - 1; whoever watches it loop unwraps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBER_BITS: Final = 20
CHECK_BITS: Final = 8
LIMIT: Final = 1 << NUMBER_BITS  # the first number that does not fit
_HEAD: Final = (1, 0)  # white, black: the reader learns both levels from the strip's own ends
_TAIL: Final = (0, 1)
_CELLS: Final = len(_HEAD) + NUMBER_BITS + CHECK_BITS + len(_TAIL)
_COLUMNS: Final = 64  # cell widths in a picture's width
_ROWS: Final = 36  # cell heights in a picture's height: square cells at 16:9
_CRC8: Final = 0x07  # x^8 + x^2 + x + 1
_LEAST_CONTRAST: Final = 60  # of 255; black and white are 219 apart in limited range
_FOOT: Final = 0.25  # a cell must come this near, of the contrast, to black or to white


def stamp(picture: NDArray[np.uint8], number: int, *, levels: tuple[int, int] = (0, 255)) -> None:
    """Write `number` (0 <= number < `LIMIT`) into `picture`, in place: height x width, with or without channels.

    `levels` are those of black and white. Raises `ValueError` for a number that does not fit.
    """
    if not 0 <= number < LIMIT:
        raise ValueError(f"a picture's number lies between 0 and {LIMIT - 1}, not {number}")
    height, width = picture.shape[:2]
    bottom = round(height / _ROWS)
    edges = _edges(width)
    for bit, left, right in zip(_cells(number), edges[:-1], edges[1:], strict=True):
        picture[:bottom, left:right] = levels[bit]


def read(luma: NDArray[np.uint8]) -> int | None:
    """The number in a luma plane (height x width), None where it holds none or the strip is damaged."""
    height, width = luma.shape
    rows = slice(round(height / _ROWS * 0.25), max(1, round(height / _ROWS * 0.75)))
    # The middle half of a cell: its rim is blurred by scaling and by chroma-sized JPEG blocks.
    edges = np.linspace(0, width * _CELLS / _COLUMNS, _CELLS * 4 + 1).round().astype(int)
    strip = luma[rows]
    if strip.shape[0] == 0 or width < 2 * _COLUMNS:
        return None
    levels = np.array([strip[:, edges[i + 1] : edges[i + 3]].mean() for i in range(0, _CELLS * 4, 4)])
    white = (levels[0] + levels[-1]) / 2
    black = (levels[1] + levels[-2]) / 2
    contrast = white - black
    if contrast < _LEAST_CONTRAST:
        return None
    shades = (levels - black) / contrast
    if np.any((shades > _FOOT) & (shades < 1 - _FOOT)):
        return None
    bits = [int(shade > 0.5) for shade in shades]  # noqa: PLR2004 - half way from black to white
    number = 0
    for bit in bits[len(_HEAD) : len(_HEAD) + NUMBER_BITS]:
        number = number << 1 | bit
    return number if tuple(bits) == _cells(number) else None


def _cells(number: int) -> tuple[int, ...]:
    value = number << CHECK_BITS | _check(number)
    length = NUMBER_BITS + CHECK_BITS
    return (*_HEAD, *(value >> (length - 1 - i) & 1 for i in range(length)), *_TAIL)


def _check(number: int) -> int:
    """CRC-8 of the number's bits, started at all ones so that a black strip is no zero."""
    crc = 0xFF
    for shift in range(NUMBER_BITS - 1, -1, -1):
        feedback = (crc >> 7) ^ (number >> shift & 1)
        crc = (crc << 1 & 0xFF) ^ (_CRC8 if feedback else 0)
    return crc


def _edges(width: int) -> list[int]:
    return [round(i * width / _COLUMNS) for i in range(_CELLS + 1)]
