"""Hostile cameras that try to get the password: a redirect after a good first answer, and a downgrade to Basic."""

from __future__ import annotations

import base64
import itertools
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.scripted_camera import ScriptedCamera

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder

pytestmark = [pytest.mark.fault, pytest.mark.long]

KINDS: Final = ("rtsp", "http", "snapshot+http")
CANARIES: Final = (b"canary", base64.b64encode(b"viewer:canary"))
BASIC: Final = b'WWW-Authenticate: Basic realm="camera"'
DIGEST: Final = b'WWW-Authenticate: Digest realm="camera", nonce="n"'
UNSUPPORTED: Final = b'WWW-Authenticate: Digest realm="camera", nonce="n", algorithm=SHA-512-256'
SDP: Final = (
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    b"a=rtpmap:96 H264/90000\r\na=control:track1\r\n"
)


@dataclass(kw_only=True)
class HostileCamera(ScriptedCamera):
    """Camera that `answers` each request: by its head, and by whether an earlier request carried credentials."""

    answers: Callable[[bytes, bool], tuple[bytes, ...]]
    status: bytes = b""

    def _response(self, head: bytes) -> bytes:
        had_login = any(b"\r\nAuthorization: " in earlier for earlier in self.requests[:-1])
        status, *lines = self.answers(head, had_login)  # the status, or the whole status line
        body = lines.pop() if lines and lines[-1].startswith(b"v=0") else b""
        sequence = re.findall(rb"(?mi)^CSeq:.*\d", head)
        version = b"" if status.startswith(b"RTSP/") else b"RTSP/1.0 " if sequence else b"HTTP/1.1 "
        size = b"Content-Length: %d" % len(body)
        return b"\r\n".join([version + status, *sequence, *lines, size, b"", body])

    @property
    def logins(self) -> list[bytes]:
        """The Authorization headers received."""
        return [found for head in self.requests for found in re.findall(rb"\r\nAuthorization: ([^\r]*)", head)]


@pytest.fixture
def hostile() -> Iterator[Callable[..., HostileCamera]]:
    started: list[HostileCamera] = []

    def start(answers: Callable[[bytes, bool], tuple[bytes, ...]]) -> HostileCamera:
        started.append(HostileCamera(answers=answers))
        return started[-1]

    yield start
    for camera in started:
        camera.close()


def entry(name: str, kind: str, port: int, **settings: Any) -> dict[str, Any]:
    url = f"{kind}://127.0.0.1:{port}/cam"
    return {"id": name, "url": url, "username": "viewer", "password": "canary", "stall_timeout": 3, **settings}


def test_a_redirect_after_a_good_answer_reaches_no_third_host(
    hostile: Callable[..., HostileCamera],
    http_camera: Callable[..., HttpCamera],
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
) -> None:
    """The camera shows its first face to the first DESCRIBE, and redirects every later request."""
    third = hostile(lambda *_: (b"401 Unauthorized", BASIC))
    location = b"Location: rtsp://127.0.0.1:%d/cam" % third.port

    def two_faced(head: bytes, _had_login: bool) -> tuple[bytes, ...]:  # noqa: FBT001 - the signature of `answers`
        if any(earlier.startswith(b"DESCRIBE") and b"Authorization" in earlier for earlier in camera.requests[:-1]):
            return b"302 Found", location
        if b"\r\nAuthorization: " not in head:
            return b"401 Unauthorized", BASIC
        return (b"200 OK", b"Content-Type: application/sdp", SDP) if head.startswith(b"DESCRIBE") else (b"200 OK",)

    camera, healthy = hostile(two_faced), http_camera()
    cameras = [entry("two-faced", "rtsp", camera.port), {"id": "healthy", "url": healthy.url()}]
    hub = start_hub(cameras, recorder())
    hub.wait_for_state("two-faced", "not_found")
    hub.wait_until(lambda: hub.camera("two-faced").error is not None)
    assert "redirects to another address, and the hub does not follow" in (hub.camera("two-faced").error or "")
    hub.wait_for_results("healthy", 1)
    assert hub.stop() == 0
    assert third.requests == []
    assert any(head.startswith(b"SETUP") for head in camera.requests)


def test_a_redirect_that_only_ffmpeg_could_see_reaches_no_third_host(
    hostile: Callable[..., HostileCamera], start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    """The first response is good, but would contain a redirect if FFmpeg received its bytes unchanged."""
    third = hostile(lambda *_: (b"404 Not Found",))
    location = b"Location: rtsp://127.0.0.1:%d/cam" % third.port
    first: dict[str, tuple[bytes, ...]] = {
        "vertical-tab": (b"RTSP/1.0\x0b200 302 Found", location),
        "zero-byte": (b"200 OK", b"\0: ", b"RTSP/1.0 302 Found", location),
        # FFmpeg would skip 257 bytes, and so also the end of the head.
        "media-packet": (
            b"200 OK",
            b"$\x01\x01\x01: " + b"a" * 100,
            b"v=0" + b"b" * 400 + b"\r\n\r\nRTSP/1.0 302 Found\r\n" + location + b"\r\n\r\n",
        ),
    }
    cameras = {
        name: hostile(
            lambda head, _, answer=answer: (
                answer
                if head.startswith(b"OPTIONS")
                else (b"200 OK", b"Content-Type: application/sdp", SDP)
                if head.startswith(b"DESCRIBE")
                else (b"200 OK",)
            )
        )
        for name, answer in first.items()
    }
    hub = start_hub([entry(name, "rtsp", camera.port) for name, camera in cameras.items()], recorder())
    for name in cameras:
        hub.wait_until(lambda name=name: hub.camera(name).error is not None)  # type: ignore[misc]
    assert hub.stop() == 0
    assert third.requests == []


def test_media_over_udp_names_no_third_host(
    hostile: Callable[..., HostileCamera], start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    """FFmpeg sends packets to the source of UDP media, so that firewalls let the media pass."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as third:
        third.bind(("127.0.0.2", 0))
        third.setblocking(False)  # noqa: FBT003 - the standard library's signature
        port = third.getsockname()[1]
        transport = b"Transport: RTP/AVP;unicast;source=127.0.0.2;server_port=%d-%d" % (port, port + 1)

        def answers(head: bytes, _had_login: bool) -> tuple[bytes, ...]:  # noqa: FBT001
            if head.startswith(b"DESCRIBE"):
                return b"200 OK", b"Content-Type: application/sdp", SDP
            return b"200 OK", b"Session: 1", *([transport] if head.startswith(b"SETUP") else [])

        camera = hostile(answers)
        hub = start_hub([entry("lobby", "rtsp", camera.port, transport="udp")], recorder())
        hub.wait_until(lambda: any(head.startswith(b"PLAY") for head in camera.requests))
        with pytest.raises(BlockingIOError):
            third.recv(1)


def test_a_camera_cannot_downgrade_to_basic(
    hostile: Callable[..., HostileCamera], start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    def forgets(head: bytes, had_login: bool) -> tuple[bytes, ...]:  # noqa: FBT001
        """Offer Digest, disconnect after the first login, and from then on offer only Basic."""
        if b"\r\nAuthorization: " in head:
            return (b"503 Service Unavailable",)
        return b"401 Unauthorized", BASIC if had_login else DIGEST

    words = {
        "forgets": (forgets, {}, "has offered Digest before and now asks for the password with Basic"),
        "unsupported": (lambda *_: (b"401 Unauthorized", UNSUPPORTED, BASIC), {}, "unsupported authentication method"),
        "one-line": (
            lambda *_: (b"401 Unauthorized", BASIC + b", " + UNSUPPORTED.partition(b": ")[2]),
            {},
            "unsupported authentication method",
        ),
        "digest-only": (lambda *_: (b"401 Unauthorized", BASIC), {"auth": "digest"}, "`auth` of this camera is"),
    }
    cameras, entries = {}, []
    for (name, (answers, settings, _)), kind in itertools.product(words.items(), KINDS):
        camera = f"{name}-{kind.replace('+', '-')}"
        cameras[camera] = hostile(answers)
        entries.append(entry(camera, kind, cameras[camera].port, **settings))
    hub = start_hub(entries, recorder())
    for (name, (_, _, sentence)), kind in itertools.product(words.items(), KINDS):
        camera = f"{name}-{kind.replace('+', '-')}"
        hub.wait_until(lambda camera=camera, sentence=sentence: sentence in (hub.camera(camera).error or ""))  # type: ignore[misc]
    assert hub.stop() == 0
    for name, peer in cameras.items():
        sent = b"\r\n".join(peer.requests)
        assert not any(canary in sent for canary in CANARIES), name
        assert bool(peer.logins) is name.startswith("forgets"), name
        assert all(login.startswith(b"Digest ") for login in peer.logins), name
    assert "canary" not in hub.log()


def test_basic_in_plain_text_is_a_warning(
    http_camera: Callable[..., HttpCamera], start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    camera = http_camera(user="viewer", password="canary", auth="basic")
    hub = start_hub([{"id": "lobby", "url": camera.url()}], recorder())
    hub.wait_for_results("lobby", 1)
    assert hub.stop() == 0
    assert "asks for the password in plain text (Basic)" in hub.log()
