"""The first words with an RTSP camera, over real sockets: odd answers, one viewer at a time, TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

from nvision_hub.config import CameraAddress
from tests.support import clips, needs
from workers.camera.source.rtsp_handshake import greet
from workers.camera.source.source import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

CAMERA: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
OK: Final = "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"


class Door:
    """Listens on loopback and hands each caller to `serve`, one at a time."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.callers = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                self.callers += 1
                with caller, contextlib.suppress(OSError):
                    self._serve(caller)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def door() -> Iterator[Callable[..., Door]]:
    opened: list[Door] = []

    def start(serve: Callable[[socket.socket], None]) -> Door:
        opened.append(Door(serve))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def refusal(address: str, within_s: float = 5.0) -> SourceError:
    with pytest.raises(SourceError) as caught:
        greet(CameraAddress.parse(address), within_s=within_s)
    return caught.value


ANSWERS: Final = {
    "no RTSP": ("HTTP/1.1 400 Bad Request\r\n\r\n", "unsupported", "does not speak RTSP; check the port"),
    "endless": ("RTSP/1.0 200 OK\r\n" + "X: y\r\n" * 5000, "unsupported", "answers at endless length"),
    "hangs up": ("", "unreachable", "hung up at once"),
    "limit": ("RTSP/1.0 453 Not Enough Bandwidth\r\nCSeq: 1\r\n\r\n", "unreachable", "refused the stream (453)"),
    "no such path": ("RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n", "not_found", "correct the path in this camera's"),
    "no video": (
        f"{OK}RTSP/1.0 200 OK\r\nContent-Length: 33\r\n\r\nv=0\r\nm=audio 0 RTP/AVP 0\r\ns=x\r\n\r\n",
        "unsupported",
        "has no video; choose a path that has",
    ),
    "no known way to ask for a password": (
        'RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Bearer realm="camera"\r\n\r\n',
        "unsupported",
        "asks for the password in an unknown way; set the camera to Digest or Basic",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_odd_answers_are_named(door: Callable[..., Door], case: str) -> None:
    answer, state, sentence = ANSWERS[case]

    def serve(caller: socket.socket) -> None:
        caller.recv(65536)
        caller.sendall(answer.encode())

    error = refusal(f"rtsp://viewer:secret@127.0.0.1:{door(serve).port}/cam")
    assert error.state == state
    assert sentence in str(error)
    assert "secret" not in str(error)


def test_an_answer_in_drips_is_bounded_as_a_whole(door: Callable[..., Door]) -> None:
    def serve(caller: socket.socket) -> None:
        caller.recv(65536)
        for byte in OK.encode():
            caller.sendall(bytes([byte]))
            threading.Event().wait(0.1)

    began = time.monotonic()
    error = refusal(f"rtsp://127.0.0.1:{door(serve).port}/cam", within_s=1.0)
    assert time.monotonic() - began < 2
    assert error.state == "stalled"


def test_nobody_there_and_no_such_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "nobody listens at" in str(refusal(f"rtsp://127.0.0.1:{port}/cam"))
    assert "the host name in rtsp://nobody.invalid/cam is not known" in str(refusal("rtsp://nobody.invalid/cam", 30))


def test_what_speaks_no_tls_is_named(door: Callable[..., Door]) -> None:
    def serve(caller: socket.socket) -> None:
        caller.recv(65536)
        caller.sendall(b"RTSP/1.0 400 Bad Request\r\n\r\n")

    error = refusal(f"rtsps://127.0.0.1:{door(serve).port}/cam")
    assert "does not speak TLS; try rtsp:// in place of rtsps://" in str(error)


def relay(camera_port: int, caller: socket.socket) -> None:
    """Between a caller and a camera until either hangs up."""
    with socket.create_connection(("127.0.0.1", camera_port)) as camera:

        def back() -> None:
            with contextlib.suppress(OSError):
                while data := camera.recv(65536):
                    caller.sendall(data)

        thread = threading.Thread(target=back, daemon=True)
        thread.start()
        with contextlib.suppress(OSError):
            while data := caller.recv(65536):
                camera.sendall(data)
        with contextlib.suppress(OSError):
            camera.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_a_camera_that_talks_to_one_at_a_time(
    gst_camera: Callable[..., GstCamera], door: Callable[..., Door], watch: Callable[..., Watching]
) -> None:
    camera = gst_camera(CAMERA)
    only = door(lambda caller: relay(camera.port, caller))
    watching = watch(f"rtsp://127.0.0.1:{only.port}/cam")
    watching.wait_for(2, 60)
    assert watching.meter.total("camera_reconnects_total") == 0
    watching.stop()


def test_rtsps(
    gst_camera: Callable[..., GstCamera], door: Callable[..., Door], watch: Callable[..., Watching], tmp_path: Path
) -> None:
    """With a certificate that the camera has signed itself, as they do."""
    openssl = needs.program("openssl", "openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    request = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=camera")
    subprocess.run([openssl, *request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    camera = gst_camera(CAMERA)

    def serve(caller: socket.socket) -> None:
        with context.wrap_socket(caller, server_side=True) as encrypted:
            relay(camera.port, encrypted)

    secure = door(serve)
    watching = watch(f"rtsps://127.0.0.1:{secure.port}/cam")
    watching.wait_for(2, 15)
    watching.stop()
