"""HTTP camera on real sockets: MJPEG as multipart/x-mixed-replace, and one JPEG per request."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest

from tests.support import clips
from tests.support.counter import Push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BOUNDARY: Final = "picture"
_PLAIN: Final = clips.ClipSpec(codec="mjpeg", width=640, height=360, seconds=4)


@dataclass(kw_only=True)
class HttpCamera:
    """Live camera: simultaneous requests receive the same frame. `auth` is "basic" or "digest"."""

    spec: clips.ClipSpec = _PLAIN
    user: str | None = None
    password: str = ""
    auth: str = "digest"
    redirect_to: str | None = None  # answer every request with a redirect (302) to this URL
    redirects: dict[str, str] = field(default_factory=dict)  # path -> Location of a redirect (302)
    cut_to: int | None = None  # send only this many bytes of each JPEG
    requests: list[str] = field(default_factory=list)  # method and path of each request in order
    pushes: list[Push] = field(default_factory=list)  # every JPEG sent to any client

    def __post_init__(self) -> None:
        self.frames = clips.access_units(self.spec)
        self.began = time.monotonic()
        self.stopped = threading.Event()
        self.frozen = threading.Event()  # while set, streams stay open without data
        self.nonce = secrets.token_hex(8)
        camera = self

        class Handler(_Handler):
            owner = camera

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port of the camera."""
        return self._server.server_address[1]

    def url(self, path: str = "/stream.mjpg", *, credentials: bool = True) -> str:
        """Return the http URL of `/stream.mjpg` or `/snapshot.jpg`."""
        known = credentials and self.user is not None
        who = f"{quote(self.user or '', safe='')}:{quote(self.password, safe='')}@" if known else ""
        return f"http://{who}127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        """End every stream and stop listening."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: HttpCamera
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        camera = self.owner
        camera.requests.append(f"GET {self.path}")
        if camera.redirect_to is not None:
            self._answer(HTTPStatus.FOUND, {"Location": camera.redirect_to})
        elif self.path in camera.redirects:
            self._answer(HTTPStatus.FOUND, {"Location": camera.redirects[self.path]})
        elif not self._allowed():
            challenge = (
                'Basic realm="camera"'
                if camera.auth == "basic"
                else f'Digest realm="camera", nonce="{camera.nonce}", qop="auth", algorithm=MD5'
            )
            self._answer(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": challenge})
        elif self.path == "/snapshot.jpg":
            serial = int((time.monotonic() - camera.began) * camera.spec.fps)
            self._answer(HTTPStatus.OK, {"Content-Type": "image/jpeg"}, self._next_jpeg(serial))
        elif self.path == "/stream.mjpg":
            self._stream()
        else:
            self._answer(HTTPStatus.NOT_FOUND, {})

    def _stream(self) -> None:
        camera = self.owner
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.end_headers()
        serial = int((time.monotonic() - camera.began) * camera.spec.fps) + 1
        try:
            while not camera.stopped.wait(max(0.0, camera.began + serial / camera.spec.fps - time.monotonic())):
                if not camera.frozen.is_set():
                    jpeg = self._next_jpeg(serial)
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                serial += 1
        except ConnectionError:
            return  # the client has closed the connection

    def _next_jpeg(self, serial: int) -> bytes:
        camera = self.owner
        number = serial % len(camera.frames)
        camera.pushes.append(Push(serial=serial, number=number, at=time.monotonic()))
        return camera.frames[number][: camera.cut_to]

    def _answer(self, status: HTTPStatus, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _allowed(self) -> bool:
        camera = self.owner
        if camera.user is None:
            return True
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        if camera.auth == "basic":
            return kind == "Basic" and base64.b64decode(given).decode() == f"{camera.user}:{camera.password}"
        # RFC 7616, section 3.4, with MD5, which cameras use.
        parts = {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', given)}
        if kind != "Digest" or parts.get("nonce") != camera.nonce:
            return False
        secret = md5(f"{camera.user}:camera:{camera.password}")
        request = md5(f"{self.command}:{parts.get('uri')}")
        middle = ":".join(parts.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
        return parts.get("response") == md5(f"{secret}:{middle}:{request}")

    def log_message(self, *_: object) -> None:
        """Print nothing, because `HttpCamera.requests` already records each request."""


def md5(text: str) -> str:
    """Return the hash that Digest uses by default."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def http_camera() -> Iterator[Callable[..., HttpCamera]]:
    """Start an HTTP camera: `http_camera()`, `http_camera(user="viewer", password="...", auth="basic")`."""
    started: list[HttpCamera] = []

    def start(**options: object) -> HttpCamera:
        camera = HttpCamera(**options)  # type: ignore[arg-type]  # fields of the dataclass
        started.append(camera)
        return camera

    yield start
    for camera in started:
        camera.close()
