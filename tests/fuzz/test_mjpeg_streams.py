"""Multipart MJPEG of an HTTP camera. FFmpeg splits the stream into JPEGs; the hub reads each JPEG's header."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
import simplejpeg
from hypothesis import strategies as st

from nvision_hub.config.models import Camera
from nvision_hub.media.encode.jpeg_encoder import EncodeError, JpegEncoder
from nvision_hub.media.sources import CameraTrust, ffmpeg_stream
from nvision_hub.media.sources.source import SourceError

if TYPE_CHECKING:
    from tests.fuzz.harness import Fuzz

CAMERA: Final = Camera.model_validate({"id": "lobby", "url": "http://10.0.0.5/video.mjpg"})
JPEG: Final = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))
MAX_PACKETS: Final = 1000


def part(*headers: bytes, boundary: bytes = b"--x") -> bytes:
    return b"\r\n".join([boundary, *headers, b"", JPEG, b""])


LENGTH: Final = b"Content-Length: %d" % len(JPEG)
SAMPLES: Final = (
    part(b"Content-Type: image/jpeg", LENGTH) * 3,
    part(b"Content-Type: image/jpeg") * 3 + b"--x--\r\n",
    b"\r\n" + part(b"X-Timestamp: 1", LENGTH, boundary=b"boundary") * 2,
)
TOKENS: Final = (
    b"\r\n\r\n",
    b"--x\r\n",
    b"Content-Length: ",
    b"Content-Type: ",
    b"4294967295",
    b"-2147483648",
    JPEG[:20],
)
HEADERS: Final = st.sampled_from(
    [
        b"Content-Type: image/jpeg",
        b"Content-Type: text/html",
        LENGTH,
        b"Content-Length: 0",
        b"Content-Length: -1",
        b"Content-Length: 2147483647",
        b"Content-Length: 99999999999999999999",
        b"X: " + b"y" * 5000,
        b": ",
    ]
)
BUILT: Final = st.lists(
    st.builds(lambda headers, boundary: part(*headers, boundary=boundary), st.lists(HEADERS, max_size=3),
              st.sampled_from([b"--x", b"x", b"--" + b"x" * 300, b"", b"--x--"])),
    min_size=1,
    max_size=4,
).map(b"".join)  # fmt: skip


class Stream:
    """Input that FFmpeg reads, instead of an HTTP response."""

    failure = None
    fingerprint = None
    marks = None
    sent_basic = False

    def __init__(self, data: bytes) -> None:
        self.opened_by_ffmpeg = io.BytesIO(data)

    def on_opened(self) -> None: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


def check(data: bytes) -> None:
    encoder = JpegEncoder(quality=85, max_width=None)
    packets = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ffmpeg_stream, "open_input", lambda *_, **__: Stream(data))
        with (
            contextlib.suppress(SourceError),
            contextlib.closing(ffmpeg_stream.StreamSource(CAMERA, CameraTrust())) as source,
        ):
            for packet in source.packets():
                packets += 1
                assert packets < MAX_PACKETS
                for _, frame in source.decode(packet):
                    with contextlib.suppress(EncodeError):
                        encoder.encode(frame)


def test_mjpeg_streams(fuzz: Fuzz) -> None:
    fuzz(check, samples=SAMPLES, built=BUILT, tokens=TOKENS)
