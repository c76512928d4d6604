"""Interlaced video: which frames contain two fields and which frames are single fields.

A camera captures the two fields of a frame at different times. Together, they would show comb-like edges on moving
objects, on which detection models are not trained. The hub therefore sends one field, scaled to the full height. This
halves the vertical detail. A better filter would also need earlier or later frames.

H.264 decoders return frames that contain two fields. H.265 codes each field as a separate picture, and FFmpeg returns
these pictures (H.265, E.3.1: field_seq_flag).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from av.video.plane import VideoPlane


class Field:
    """Mark (`opaque`) of a frame that is a single field. FFmpeg flags fields and frames of two fields alike.

    Each frame needs its own mark: when one frame is freed, PyAV forgets the mark even if other frames share it.
    """


def even_lines(frame: av.VideoFrame) -> av.VideoFrame:
    """Return the even lines of a frame as a frame of half the height, with the same colors.

    In interlaced 4:2:0, the chroma lines also alternate between the fields (ITU-T H.264, 6.2).
    """
    field = av.VideoFrame(frame.width, frame.height // 2, frame.format.name)
    for source, target in zip(frame.planes, field.planes, strict=True):
        lines, kept = _lines(source), _lines(target)
        width, height = min(lines.shape[1], kept.shape[1]), len(kept)
        kept[:, :width] = lines[::2][:height, :width]
    field.color_range, field.colorspace = frame.color_range, frame.colorspace
    return field


def _lines(plane: VideoPlane) -> np.ndarray[Any, Any]:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
