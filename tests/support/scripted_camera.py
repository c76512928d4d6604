"""Hostile camera that answers every RTSP or HTTP request on its port with one fixed response."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(kw_only=True)
class ScriptedCamera:
    """Camera with a fixed status, header lines and body. With `closes`, it disconnects after the response."""

    status: bytes
    headers: tuple[bytes, ...] = ()
    body: bytes = b""
    closes: bool = False
    raw: bytes | None = None  # the complete response; if None, a response with the status, the headers and the body
    host: str = "127.0.0.1"
    requests: list[bytes] = field(default_factory=list)  # the head of each request in order

    def __post_init__(self) -> None:
        self._socket = socket.create_server((self.host, 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The port on which the camera listens."""
        port: int = self._socket.getsockname()[1]
        return port

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(4096):
                received += data
                while b"\r\n\r\n" in received:
                    head, _, received = received.partition(b"\r\n\r\n")
                    self.requests.append(head)
                    connection.sendall(self._response(head))
                    if self.closes:
                        return

    def _response(self, head: bytes) -> bytes:
        if self.raw is not None:
            return self.raw
        sequence = re.findall(rb"(?mi)^CSeq:.*\d", head)
        version = b"RTSP/1.0" if sequence else b"HTTP/1.1"
        return b"\r\n".join([version + b" " + self.status, *sequence, *self.headers, b"", self.body])

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def scripted_camera() -> Iterator[Callable[..., ScriptedCamera]]:
    """Start a camera: `scripted_camera(b"401 Unauthorized", b"WWW-Authenticate: Digest abc")`."""
    started: list[ScriptedCamera] = []

    def start(
        status: bytes,
        *headers: bytes,
        host: str = "127.0.0.1",
        body: bytes = b"",
        closes: bool = False,
        raw: bytes | None = None,
    ) -> ScriptedCamera:
        camera = ScriptedCamera(status=status, headers=headers, host=host, body=body, closes=closes, raw=raw)
        started.append(camera)
        return camera

    yield start
    for camera in started:
        camera.close()
