"""Deinterlacing of frames that consist of two fields.

A camera captures the two fields of an interlaced frame at different times. In the frame, the edges of moving objects
therefore look like combs, which no model for detection knows. The encoder keeps one field and scales it to the full
height. This halves the vertical detail, but needs no earlier or later frame, as a better filter would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import numpy as np

if TYPE_CHECKING:
    from av.video.plane import VideoPlane


def top_field(frame: av.VideoFrame) -> av.VideoFrame:
    """Return the even lines of a frame as a frame of half the height, with the same colors.

    In interlaced 4:2:0, the chroma lines alternate between the fields as well (ITU-T H.264, 6.2).
    """
    field = av.VideoFrame(frame.width, frame.height // 2, frame.format.name)
    for source, target in zip(frame.planes, field.planes, strict=True):
        lines, kept = _lines(source)[::2], _lines(target)
        width = min(lines.shape[1], kept.shape[1])
        height = min(len(lines), len(kept))
        kept[:height, :width] = lines[:height, :width]
    field.color_range, field.colorspace = frame.color_range, frame.colorspace
    return field


def _lines(plane: VideoPlane) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a plane's bytes with shape (height, bytes per line), without a copy."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
