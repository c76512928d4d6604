"""RTSP responses of a camera: redirects, challenges, lengths and stream descriptions."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final, cast

import pytest
from hypothesis import strategies as st

from nvision_hub.config.models import Camera
from nvision_hub.media.sources import CameraTrust, rtsp_client
from nvision_hub.media.sources.camera_connection import CameraConnection
from nvision_hub.media.sources.source import SourceError

if TYPE_CHECKING:
    import socket

    from tests.fuzz.harness import Fuzz

CAMERA: Final = Camera.model_validate({"id": "cam", "url": "rtsp://viewer:canary@10.0.0.5/cam?x=1"})
REQUEST: Final = re.compile(
    rb"(?:OPTIONS|DESCRIBE) rtsp://10\.0\.0\.5(?:/[^\s]*)? RTSP/1\.0\r\n"
    rb"(?:(?:CSeq|User-Agent|Accept|Authorization): [^\r\n]*\r\n)+\r\n"
)
DESCRIPTION: Final = b"v=0\r\no=- 1 1 IN IP4 10.0.0.5\r\ns=cam\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
OPTIONS: Final = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS, DESCRIBE\r\n\r\n"


def response(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"RTSP/1.0 {status}", "CSeq: 1", *headers, *([f"Content-Length: {len(body)}"] if body else []), "", ""]
    return "\r\n".join(lines).encode() + body


DESCRIBE: Final = response("200 OK", "Content-Type: application/sdp", body=DESCRIPTION)
DIGEST: Final = 'WWW-Authenticate: Digest realm="camera", nonce="n", qop="auth", algorithm=MD5, opaque="o", stale=true'
UNAUTHORIZED: Final = response("401 Unauthorized", DIGEST, 'WWW-Authenticate: Basic realm="camera"')
REDIRECT: Final = response("302 Moved", "Location: rtsp://10.0.0.5:554/other")
SAMPLES: Final = (
    OPTIONS + DESCRIBE,
    UNAUTHORIZED + OPTIONS + DESCRIBE,
    OPTIONS + UNAUTHORIZED + DESCRIBE,
    REDIRECT + OPTIONS + REDIRECT + UNAUTHORIZED + OPTIONS + DESCRIBE,
    UNAUTHORIZED * 4,
)
TOKENS: Final = (
    b"\r\n\r\n",
    b"Content-Length: ",
    b"Location: //10.0.0.9/",
    b"Location: [",
    b":",
    b"\xd9\xa3",
    b"\n ",
    DIGEST.encode(),
)
HEADERS: Final = st.sampled_from(
    [
        DIGEST,
        "WWW-Authenticate: Digest",
        'WWW-Authenticate: digest realm="a\tb", nonce=n, algorithm=SHA-256',
        'WWW-Authenticate: Basic realm="\u00e9"',
        "Content-Length: 99999999999999999999",
        "Content-Length: -1",
        "Content-Length: \u0663",
        "Content-Length: 70000",
        "Location: /other path",
        "Location: rtsp://10.0.0.5:99999/",
        "Location: rtsp://viewer@10.0.0.5\\@10.0.0.9/",
        "Location: rtsps://10.0.0.5/",
        "Location: ../%0d%0a",
        "Location:",
        ": :",
    ]
)
STATUSES: Final = st.sampled_from(
    ["200 OK", "200", "401 x", "302 x", "399", "404 x", "454 x", "\u0663\u0663\u0663", "99", "2e2"]
)
BUILT: Final = st.lists(
    st.builds(
        lambda status, headers, body: response(status, *headers, body=body),
        STATUSES,
        st.lists(HEADERS, max_size=3),
        st.sampled_from([b"", DESCRIPTION, b"m=audio"]),
    ),
    min_size=1,
    max_size=5,
).map(b"".join)


class Peer:
    """Socket that is connected to the camera. The camera sends its responses without waiting for requests."""

    def __init__(self, data: bytes) -> None:
        self.left = data
        self.requests: list[bytes] = []

    def settimeout(self, timeout_s: float) -> None:
        assert 0 < timeout_s <= 5

    def sendall(self, data: bytes) -> None:
        self.requests.append(data)

    def recv(self, size: int) -> bytes:
        data, self.left = self.left[:size], self.left[size:]
        return data

    def close(self) -> None:
        self.left = b""


def check(data: bytes) -> None:
    peers: list[Peer] = []
    sentence = ""

    def connect(*_: object) -> CameraConnection:
        peers.append(Peer(data))
        return CameraConnection(cast("socket.socket", peers[-1]), None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rtsp_client, "connect_camera", connect)
        try:
            with contextlib.closing(rtsp_client.describe_stream(CAMERA, CameraTrust(), timeout_s=5)) as client:
                path = client.path
        except SourceError as error:
            path, sentence = "/", str(error)
    assert path.isprintable()
    assert "canary" not in sentence
    assert len(peers) <= 4
    for request in (request for peer in peers for request in peer.requests):
        assert REQUEST.fullmatch(request), request
        assert b"canary" not in request


def test_rtsp_responses(fuzz: Fuzz) -> None:
    fuzz(check, samples=SAMPLES, built=BUILT, tokens=TOKENS)
