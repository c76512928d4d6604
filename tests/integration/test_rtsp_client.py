"""The RTSP client over real sockets: unusual responses, cameras that serve one client at a time, and TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

from nvision_hub.config.models import Camera
from nvision_hub.media.sources.camera_trust import CameraTrust
from nvision_hub.media.sources.rtsp_client import describe_stream
from nvision_hub.media.sources.source import SourceError
from nvision_hub.metrics import catalogue
from tests.support import clips, needs
from tests.support.patience import PATIENCE_S, is_on_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

CAMERA: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
OK: Final = "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"


class Listener:
    """Listener on loopback that passes each connection to `serve`, one at a time."""

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
        self._thread.join(PATIENCE_S)


@pytest.fixture
def start_listener() -> Iterator[Callable[..., Listener]]:
    opened: list[Listener] = []

    def start(serve: Callable[[socket.socket], None]) -> Listener:
        opened.append(Listener(serve))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def client_error(address: str, timeout_s: float = 5.0) -> SourceError:
    with pytest.raises(SourceError) as caught:
        describe_stream(Camera.model_validate({"id": "cam", "url": address}), CameraTrust(), timeout_s=timeout_s)
    return caught.value


RESPONSES: Final = {
    "no RTSP": ("HTTP/1.1 400 Bad Request\r\n\r\n", "unsupported", "does not speak RTSP; check the port"),
    "endless": ("RTSP/1.0 200 OK\r\n" + "X: y\r\n" * 5000, "unsupported", "sends a response that is too long"),
    "hangs up": ("", "unreachable", "closed the connection at once"),
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
        "requires an unsupported authentication method; set the camera to Digest or Basic",
    ),
}


@pytest.mark.parametrize("case", RESPONSES)
def test_odd_responses_are_reported(start_listener: Callable[..., Listener], case: str) -> None:
    answer, state, sentence = RESPONSES[case]

    def serve(caller: socket.socket) -> None:
        caller.recv(65536)
        caller.sendall(answer.encode())

    error = client_error(f"rtsp://viewer:secret@127.0.0.1:{start_listener(serve).port}/cam")
    assert error.state == state
    assert sentence in str(error)
    assert "secret" not in str(error)


def test_a_slow_response_is_bounded_in_total(start_listener: Callable[..., Listener]) -> None:
    def serve(caller: socket.socket) -> None:
        caller.recv(65536)
        for byte in OK.encode():
            caller.sendall(bytes([byte]))
            threading.Event().wait(0.1)

    began = time.monotonic()
    error = client_error(f"rtsp://127.0.0.1:{start_listener(serve).port}/cam", timeout_s=1.0)
    assert is_on_time(time.monotonic() - began, 2)
    assert error.state == "stalled"


def test_no_listener_and_an_unknown_host_are_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "connection refused by" in str(client_error(f"rtsp://127.0.0.1:{port}/cam"))
    assert "the host name in rtsp://unknown.invalid/cam cannot be resolved" in str(
        client_error("rtsp://unknown.invalid/cam", 30)
    )


def test_a_host_name_with_a_long_part_is_reported() -> None:
    """Python itself rejects this name, with UnicodeError."""
    name = "a" * 64
    assert f"the host name in rtsp://{name}/cam cannot be resolved" in str(client_error(f"rtsp://{name}/cam", 30))


def test_a_server_without_tls_is_reported(start_listener: Callable[..., Listener]) -> None:
    def serve(caller: socket.socket) -> None:
        caller.recv(65536)
        caller.sendall(b"RTSP/1.0 400 Bad Request\r\n\r\n")

    error = client_error(f"rtsps://127.0.0.1:{start_listener(serve).port}/cam")
    assert "does not speak TLS; try rtsp:// in place of rtsps://" in str(error)


def relay(camera_port: int, caller: socket.socket) -> None:
    """Relay between a client and a camera until either disconnects."""
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
        thread.join(PATIENCE_S)


def test_a_camera_that_serves_one_client_at_a_time_streams(
    gst_camera: Callable[..., GstCamera], start_listener: Callable[..., Listener], watch: Callable[..., Watching]
) -> None:
    camera = gst_camera(CAMERA)
    only = start_listener(lambda caller: relay(camera.port, caller))
    watching = watch(f"rtsp://127.0.0.1:{only.port}/cam")
    watching.wait_for(2)
    assert watching.meter.total(catalogue.CAMERA_RECONNECTS_TOTAL) == 0
    watching.stop()


def test_a_camera_streams_over_rtsps(
    gst_camera: Callable[..., GstCamera],
    start_listener: Callable[..., Listener],
    watch: Callable[..., Watching],
    tmp_path: Path,
) -> None:
    """The camera has a self-signed certificate, like most cameras."""
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

    secure = start_listener(serve)
    watching = watch(f"rtsps://127.0.0.1:{secure.port}/cam")
    watching.wait_for(2)
    watching.stop()
