"""Limits on the frames that the gateway decodes."""

from __future__ import annotations

import tracemalloc
from typing import Final

import numpy as np
import pytest
import simplejpeg

from workers.gateway.live import frame_image
from workers.gateway.live.frame_image import FrameImage, FrameTooLargeError, draw_boxes, frame_size

WIDE: Final = (3_840, 2_400)  # pixels; more than a 4K frame has


def jpeg_of(width: int, height: int) -> bytes:
    return bytes(simplejpeg.encode_jpeg(np.zeros((height, width, 3), np.uint8), 85, "RGB", "420"))


def test_a_frame_above_the_limit_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_image, "MAX_DECODED_PIXELS", 64 * 48)
    allowed, large = jpeg_of(64, 48), jpeg_of(64, 64)
    assert frame_size(allowed, fps=1, quality=85, max_width=None).width == 64
    with pytest.raises(FrameTooLargeError, match="64 x 64"):
        frame_size(large, fps=1, quality=85, max_width=16)
    frame = FrameImage(frame_id="f1", width=64, height=64, jpeg=large)
    with pytest.raises(FrameTooLargeError):
        draw_boxes(frame, [])


@pytest.mark.parametrize(("width", "height"), [(64, 48), WIDE])
def test_the_size_follows_the_settings(width: int, height: int) -> None:
    size = frame_size(jpeg_of(width, height), fps=2, quality=50, max_width=32)
    assert (size.width, size.height) == (32, round(32 * height / width / 2) * 2)
    assert size.bytes_per_hour == 7_200 * size.bytes_per_picture
    size = frame_size(jpeg_of(width, height), fps=2, quality=50, max_width=16_384)
    assert (size.width, size.height) == (width, height)


def test_a_large_frame_is_decoded_at_a_fraction_of_its_size() -> None:
    jpeg = jpeg_of(*WIDE)
    tracemalloc.start()
    frame_size(jpeg, fps=1, quality=85, max_width=320)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < WIDE[0] * WIDE[1]


@pytest.mark.parametrize("jpeg", [b"", b"\x89PNG\r\n\x1a\n", jpeg_of(64, 48)[:20]])
def test_an_unreadable_frame_is_not_decoded(jpeg: bytes) -> None:
    with pytest.raises(ValueError, match="readable"):
        frame_size(jpeg, fps=1, quality=85, max_width=None)
    with pytest.raises(ValueError, match="readable"):
        draw_boxes(FrameImage(frame_id="f1", width=64, height=48, jpeg=jpeg), [])
