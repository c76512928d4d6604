"""HTTP responses: of a snapshot camera, and of a webhook endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from typing import TYPE_CHECKING, Any, Final, cast

import httpcore2
import pytest
from hypothesis import strategies as st

from nvision_hub.config.models import Camera, Webhook
from nvision_hub.media.sources import CameraTrust, http_client, snapshot
from nvision_hub.media.sources.camera_connection import CameraConnection
from nvision_hub.media.sources.redirects import MAX_REDIRECTS
from nvision_hub.media.sources.source import SourceError
from workers.webhooks.settings import MAX_RETRY_AFTER_S
from workers.webhooks.webhook_client import Outcome, WebhookClient

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tests.fuzz.harness import Fuzz
    from workers.webhooks.ssrf import GuardedNetwork

CAMERA: Final = Camera.model_validate(
    {"id": "lobby", "url": "snapshot+http://viewer:canary@10.0.0.5/shot.jpg", "stall_timeout": 10}
)
WEBHOOK: Final = Webhook.model_validate(
    {"id": "alarms", "url": "http://example.com/hook", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
)
REQUEST: Final = re.compile(
    rb"GET /[!-~]* HTTP/1\.1\r\n(?:(?:Host|Accept|Accept-Encoding|User-Agent|Authorization): [^\r\n]*\r\n)+\r\n"
)
JPEG: Final = b"\xff\xd8\xff\xe0\0\x04JF\xff\xd9"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b" % (len(JPEG), JPEG)
DIGEST: Final = b'WWW-Authenticate: Digest realm="camera", nonce="n", qop="auth"\r\n'
UNAUTHORIZED: Final = b"HTTP/1.1 401 Unauthorized\r\n" + DIGEST + b"Content-Length: 0\r\n\r\n"
SAMPLES: Final = (
    OK,
    UNAUTHORIZED + OK,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\xff\xd8\r\n0\r\nX: 1\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.9/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.5?a b\r\nContent-Length: 0\r\n\r\n" + OK,
    b"HTTP/1.0 200 OK\r\n\r\n" + JPEG,
)
TOKENS: Final = (
    b"\r\n\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    b"Content-Encoding: gzip\r\n",
    b"ffffffffffffffff\r\n",
    b"Retry-After: Wed, 21 Oct 99999999999 07:28:00 GMT\r\n",
    DIGEST,
)
HEADERS: Final = st.sampled_from(
    [
        "Content-Length: 2",
        "Content-Length: 3, 3",
        "Content-Length: 99999999999",
        "Content-Length: -1",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Retry-After: " + "9" * 5000,
        "Retry-After: \u00e9",
        "WWW-Authenticate: Digest \u00e9",
        "WWW-Authenticate: Basic",
        'WWW-Authenticate: Digest realm="", nonce="", algorithm=SHA-512-sess',
        "Connection: upgrade",
        ": x",
        "Set-Cookie: a=b; Domain=com",
    ]
)
BODIES: Final = st.sampled_from(["", "\xff\xd8", "2\r\n\xff\xd8\r\n0\r\n\r\n", "x" * 70_000])
STATUSES: Final = st.sampled_from(
    ["200 OK", "200", "401 x", "101 x", "100 x", "204 x", "304 x", "410 x", "429 x", "99 x"]
)


def response(status: str, headers: list[str], body: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", body]).encode("latin-1")


BUILT: Final = st.lists(
    st.builds(response, STATUSES, st.lists(HEADERS, max_size=3), BODIES), min_size=1, max_size=2
).map(b"".join)


class Peer:
    """Socket of a camera that sends the same bytes on each connection and then closes it."""

    def __init__(self, data: bytes) -> None:
        self._received = io.BytesIO(data)
        self.requests: list[bytes] = []

    def settimeout(self, timeout_s: float) -> None:
        assert 0 < timeout_s <= 10

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 80

    def sendall(self, data: bytes) -> None:
        self.requests.append(data)

    def makefile(self, _mode: str, *, buffering: int) -> PeerReader:
        assert buffering == 0
        return PeerReader(self._received)

    def close(self) -> None: ...


class PeerReader(io.RawIOBase):
    def __init__(self, received: io.BytesIO) -> None:
        self._received = received

    def readinto(self, buffer: Any) -> int:
        return self._received.readinto(buffer)


class AsyncResponses(httpcore2.AsyncNetworkBackend):
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def connect_tcp(self, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        return httpcore2.AsyncMockStream([self._data])


def check_snapshot(data: bytes) -> None:
    peers: list[Peer] = []

    def connect(*_: object) -> CameraConnection:
        peers.append(Peer(data))
        return CameraConnection(cast("socket.socket", peers[-1]), None)

    sentence = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_client, "connect_camera", connect)
        try:
            with contextlib.closing(snapshot.SnapshotSource(CAMERA, CameraTrust())) as source:
                (packet,) = [next(source.packets())]
            assert packet.payload.startswith(b"\xff\xd8")
        except SourceError as error:
            sentence = str(error)
    assert "canary" not in sentence
    assert len(peers) <= 3 * (MAX_REDIRECTS + 1)
    for request in (request for peer in peers for request in peer.requests):
        assert REQUEST.fullmatch(request), request


def check_webhook(runner: asyncio.Runner) -> Callable[[bytes], None]:
    async def post(data: bytes) -> None:
        network = cast("GuardedNetwork", AsyncResponses(data))
        client = WebhookClient(WEBHOOK, connections=1, timeout_s=10, network=network)
        attempt = await client.post("id", b"{}")
        await client.aclose()
        assert attempt.outcome in Outcome
        assert 0 <= attempt.retry_after_s <= MAX_RETRY_AFTER_S

    return lambda data: runner.run(post(data))


def test_responses_of_a_snapshot_camera(fuzz: Fuzz) -> None:
    fuzz(check_snapshot, samples=SAMPLES, built=BUILT, tokens=TOKENS)


def test_responses_of_a_webhook_endpoint(fuzz: Fuzz) -> None:
    with asyncio.Runner() as runner:
        fuzz(check_webhook(runner), samples=SAMPLES, built=BUILT, tokens=TOKENS)
