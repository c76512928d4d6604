"""Bytes of a camera while it streams, as the relay forwards them to FFmpeg, and challenges of cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from nvision_hub.config.models import Camera
from nvision_hub.media.sources import CameraTrust, SourceError
from nvision_hub.media.sources.http_auth import CameraAuth
from nvision_hub.media.sources.rtsp_messages import RtspMessage, RtspReader, RtspSyntaxError, RtspTooLongError

if TYPE_CHECKING:
    from tests.fuzz.harness import Fuzz

CAMERA: Final = Camera.model_validate({"id": "cam", "url": "rtsp://viewer:canary@10.0.0.5/cam"})
PACKET: Final = b"$\x00\x00\x0c" + bytes(12)
RTCP: Final = b"$\x01\x00\x04" + b"$$$$"
KEEPALIVE: Final = b"RTSP/1.0 200 OK\r\nCSeq: 9\r\nContent-Length: 2\r\n\r\nok"
STALE: Final = (
    b'RTSP/1.0 401 Unauthorized\r\nCSeq: 9\r\nWWW-Authenticate: Digest realm="c", nonce="n", stale=true\r\n\r\n'
)
REQUEST: Final = b"ANNOUNCE rtsp://10.0.0.5/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n"
PARTS: Final = (PACKET, RTCP, KEEPALIVE, STALE, REQUEST, b"\r\n", b"\0")
TOKENS: Final = (
    *(b"$\x00\xff\xff", b"$", b"\r\n\r\n", b"\n\n", b"\nRTSP/1.0 302 x\n", b"Content-Length: ", b"RTSP/1.0 "),
    *(b"\n\0: ", b"\n$\x01\x01\x01: ", b"RTSP/1.0\x0b200 302 x", b"RTSP/1.0\xc2\xa0200 302 x"),
)
DIGEST: Final = b'Digest realm="camera", nonce="n", qop="auth", algorithm=MD5, opaque="o"'
CHALLENGES: Final = (DIGEST, b'Basic realm="camera"', DIGEST + b', Basic realm="camera"', b'Basic realm="c", ' + DIGEST)


def check_stream(data: bytes) -> None:
    for resyncs in (False, True):
        reader = RtspReader()
        reader.resyncs = resyncs
        forwarded = 0
        half = len(data) // 2
        try:
            for part in (*reader.feed(data[:half]), *reader.feed(data[half:])):
                if not isinstance(part, RtspMessage):
                    forwarded += len(part)
                    continue
                forwarded += len(part.body)
                head, blank, body = part.encode().partition(b"\r\n\r\n")
                assert blank, part
                assert body == part.body
                check_lines(part, head.split(b"\r\n"))
        except (RtspSyntaxError, RtspTooLongError):
            pass
        assert forwarded <= len(data)


def check_lines(message: RtspMessage, lines: list[bytes]) -> None:
    """Check that FFmpeg reads the same message: for each line, as its `ff_rtsp_read_reply` does."""
    for line in lines:
        assert line[:1] not in {b"", b"$"}
        assert not set(line) & {*range(9), *range(10, 32), 127}, line
    words = lines[0].replace(b"\t", b" ").split(b" ")
    assert words[0].startswith(b"RTSP/") is message.is_response
    if message.is_response:
        status = next(filter(None, words[1:]))
        assert int(status[:3]) == message.status
        assert not status[3:4].isdigit()


def check_challenge(data: bytes) -> None:
    trust = CameraTrust()
    auth = CameraAuth(CAMERA, trust)
    auth.on_challenge([data.decode("utf-8", "surrogateescape")])
    try:
        header = auth.header("GET", "/cam")
    except SourceError:
        return
    assert header is not None
    assert not set("\r\n\0") & set(header)
    assert header.startswith("Digest ") or not trust.offered_digest


def test_rtsp_streams(fuzz: Fuzz) -> None:
    built = st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map(b"".join)
    fuzz(check_stream, samples=(b"".join(PARTS), PACKET * 5 + STALE + PACKET), built=built, tokens=TOKENS)


def test_challenges(fuzz: Fuzz) -> None:
    built = st.lists(st.sampled_from(CHALLENGES), min_size=1, max_size=3).map(b", ".join)
    fuzz(check_challenge, samples=CHALLENGES, built=built, tokens=(b", ", b'="', b"Digest ", b"basic ", b"nonce="))
