"""Pictures from and to files in memory: JPEG or PNG in, JPEG out. Knows nothing of what is in them."""

from __future__ import annotations

import struct
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

Pixels = npt.NDArray[np.uint8]  # height x width x 3, blue green red

MAX_PIXELS: Final = 64_000_000  # beyond any camera; a file of a few kilobytes can claim a gigabyte of picture
JPEG_QUALITY: Final = 90
_JPEG_MAGIC: Final = b"\xff\xd8\xff"
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE: Final = struct.Struct(">II")  # IHDR is always the first chunk (PNG specification, 11.2.1)
_PNG_SIZE_AT: Final = 16


class PictureError(ValueError):
    """Bytes that are no whole JPEG or PNG, or a picture too large to open."""


def open_picture(data: bytes) -> Pixels:
    """The pixels of one JPEG or PNG, as they are stored. Raises `PictureError`.

    An EXIF rotation is not applied: boxes are given in pixels of the picture that was sent.
    """
    width, height = _size_of(data)
    if not 0 < width * height <= MAX_PIXELS:
        raise PictureError(f"a picture of {width}x{height} pixels; at most {MAX_PIXELS:,} pixels are opened")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_BGR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise PictureError("a picture that is damaged or cut short") from error
    if pixels is None:  # the stubs do not say that it may be
        raise PictureError("a picture that is damaged or cut short")
    return _as_pixels(pixels)


def _size_of(data: bytes) -> tuple[int, int]:
    if data.startswith(_JPEG_MAGIC):
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        except (ValueError, KeyError) as error:  # the second where the header ends before it names its colours
            raise PictureError("a JPEG with a damaged header") from error
        return width, height
    if data.startswith(_PNG_MAGIC):
        try:
            width, height = _PNG_SIZE.unpack_from(data, _PNG_SIZE_AT)
        except struct.error as error:
            raise PictureError("a PNG with a damaged header") from error
        return width, height
    raise PictureError("a picture that is neither JPEG nor PNG" if data else "a message without a picture")


def jpeg(pixels: Pixels) -> bytes:
    """`pixels` as a JPEG file."""
    written, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not written:
        raise PictureError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} pixels that JPEG cannot hold")
    return data.tobytes()


def reduced(pixels: Pixels, longest: int) -> tuple[Pixels, float]:
    """`pixels` with no side longer than `longest`, and the factor that leads back to the picture's own pixels."""
    height, width = pixels.shape[:2]
    factor = max(width, height) / longest
    if factor <= 1:
        return pixels, 1.0
    size = (max(round(width / factor), 1), max(round(height / factor), 1))
    return _as_pixels(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)), factor


def _as_pixels(array: Any) -> Pixels:
    # OpenCV's stubs say "integer or floating array" of everything; what goes in as bytes comes out as bytes.
    return np.asarray(array, np.uint8)
