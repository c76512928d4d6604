"""JPEGs from cameras and clients of the local service: the header decides how much memory a decoder needs."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Final

import numpy as np
import simplejpeg
from hypothesis import strategies as st

from nvision_hub.media.encode.jpeg_encoder import EncodeError, JpegEncoder
from workers.gateway.live.frame_image import FrameImage, frame_size
from workers.local_service.images import ImageError, open_image

if TYPE_CHECKING:
    from tests.fuzz.harness import Fuzz

PIXELS: Final = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
MAX_DECODED_PIXELS: Final = 2**20  # the test decodes only small frames, because large ones take long
SAMPLES: Final = (
    simplejpeg.encode_jpeg(PIXELS, 85, "RGB", "420"),
    simplejpeg.encode_jpeg(PIXELS, 85, "RGB", "444"),
    simplejpeg.encode_jpeg(PIXELS[:, :, :1].copy(), 85, "GRAY", "Gray"),
    b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 64, 48, 8, 2, 0, 0, 0, 0),
)
# Start of frame (baseline, progressive, lossless, arithmetic), tables, scan, restart, comment, Exif, Adobe, no length.
MARKERS: Final = tuple(b"\xff" + bytes([kind]) for kind in (0xC0, 0xC2, 0xC3, 0xC9, 0xC4, 0xDB, 0xDA, 0xD0, 0xFE, 0xE1))
TOKENS: Final = (*MARKERS, b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\0", b"\0\0", b"\xff\xff", b"Exif\0\0", b"\xff\xd9")


def with_frame_header(kind: int, precision: int, height: int, width: int, components: int) -> bytes:
    """Return a sample whose start of frame (T.81, B.2.2) has these fields."""
    sample: bytes = SAMPLES[0]
    before, _, after = sample.partition(b"\xff\xc0")
    length = int.from_bytes(after[:2])
    fields = struct.pack(">BHHB", precision, height, width, components)
    return before + bytes([0xFF, kind]) + after[:2] + fields + after[8:length] + after[length:]


SIDES: Final = st.sampled_from([0, 1, 48, 64, 8192, 65500, 65535])
BUILT: Final = st.builds(
    with_frame_header,
    st.sampled_from([0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9]),
    st.sampled_from([0, 8, 12, 16]),
    SIDES,
    SIDES,
    st.sampled_from([0, 1, 2, 3, 4, 255]),
)


def check(data: bytes) -> None:
    with contextlib.suppress(EncodeError):
        assert JpegEncoder(quality=85, max_width=None).encode(data).data == data
    preview = FrameImage(frame_id="f", width=64, height=48, jpeg=data)
    assert preview.is_full_size in {True, False}
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):
        height = width = 1
    if height * width <= MAX_DECODED_PIXELS:
        with contextlib.suppress(ImageError):
            open_image(data)
        with contextlib.suppress(EncodeError):
            JpegEncoder(quality=85, max_width=32).encode(data)
        with contextlib.suppress(ValueError):
            frame_size(data, fps=1, quality=85, max_width=32)


def test_jpeg_headers(fuzz: Fuzz) -> None:
    fuzz(check, samples=SAMPLES, built=BUILT, tokens=TOKENS)
