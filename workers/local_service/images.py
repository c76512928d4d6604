"""Decoder for JPEG and PNG images in memory, and encoder for JPEG."""

from __future__ import annotations

import struct
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

Pixels = npt.NDArray[np.uint8]  # height x width x 3; blue, green, red

MAX_PIXELS: Final = 64_000_000  # more than any camera sends; without this limit, a small file could decode to gigabytes
JPEG_QUALITY: Final = 90
_JPEG_MAGIC: Final = b"\xff\xd8\xff"
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE: Final = struct.Struct(">16xII")  # IHDR is always the first chunk (PNG specification, 11.2.1)


class ImageError(ValueError):
    """The JPEG or PNG is invalid, truncated or too large to decode."""


def open_image(data: bytes) -> Pixels:
    """Decode one JPEG or PNG. Raises `ImageError`.

    The function does not apply EXIF rotation, because boxes refer to the pixels of the received image.
    """
    if not data.startswith((_JPEG_MAGIC, _PNG_MAGIC)):
        raise ImageError("neither JPEG nor PNG" if data else "no image")
    try:
        if data.startswith(_PNG_MAGIC):
            width, height = _PNG_SIZE.unpack_from(data)
        else:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (struct.error, ValueError, KeyError) as error:  # KeyError if a JPEG header has no color space
        raise ImageError("an image with a damaged header") from error
    if not 0 < width * height <= MAX_PIXELS:
        raise ImageError(f"an image of {width}x{height} pixels; send at most {MAX_PIXELS:,} pixels")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_BGR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError("a damaged or truncated image") from error
    if pixels is None:  # None is possible although the stubs exclude it
        raise ImageError("a damaged or truncated image")
    # the stubs allow any numeric type, but IMREAD_COLOR_BGR always yields 8 bits per channel
    return np.asarray(pixels, np.uint8)


def jpeg(pixels: Pixels) -> bytes:
    ok, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise ImageError(f"an image of {pixels.shape[1]}x{pixels.shape[0]} pixels, too large for JPEG")
    return data.tobytes()


def downscale(pixels: Pixels, max_side: int) -> tuple[Pixels, float]:
    """Return `pixels` with no side longer than `max_side`, and the factor that scales the result to the original."""
    height, width = pixels.shape[:2]
    factor = max(width, height) / max_side
    if factor <= 1:
        return pixels, 1.0
    size = (max(round(width / factor), 1), max(round(height / factor), 1))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8), factor
