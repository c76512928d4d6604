"""A small grey picture of a decoded one, of pixels or of a JPEG, as cheaply as each allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import simplejpeg

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

WIDTH: Final = 160  # at least, and less than twice as wide, but for pictures that are smaller
_SAMPLES: Final = 4  # each way of a pixel: noise becomes a quarter, and the rest of the plane is never read


def small_luma(picture: av.VideoFrame | NDArray[Any] | bytes) -> NDArray[np.float32] | None:
    """Shape (height, width), values 0..255; None where a JPEG is broken."""
    if isinstance(picture, bytes):
        try:
            plane = simplejpeg.decode_jpeg(
                picture, "GRAY", min_width=WIDTH, min_height=1, fastdct=True, fastupsample=True, strict=False
            )
        except ValueError:
            return None
        return _shrunk(plane[:, :, 0])
    if isinstance(picture, np.ndarray):
        return _shrunk(picture[:, :, 1])  # green is most of luma
    if picture.format.components[0].bits != 8 or picture.format.is_rgb or not _has_luma_plane(picture):  # noqa: PLR2004
        picture = picture.reformat(format="gray")
    plane = picture.planes[0]
    return _shrunk(np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:, : plane.width])


def _has_luma_plane(frame: av.VideoFrame) -> bool:
    return frame.format.name.startswith(("yuv4", "yuvj4", "nv", "gray"))


def _shrunk(plane: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = plane.shape
    step = max(1, min(width // WIDTH, height))
    rows, columns = height // step, width // step
    offsets = range(0, step, max(1, step // _SAMPLES))
    total = np.zeros((rows, columns), np.uint32)
    for y in offsets:
        line = plane[y : rows * step : step]
        for x in offsets:
            total += line[:, x : columns * step : step]
    return np.multiply(total, 1 / len(offsets) ** 2, dtype=np.float32)
