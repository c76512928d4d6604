"""HTTP client for MJPEG streams, snapshots and ONVIF, with the camera's credentials.

The standard library's HTTP client runs on a connection from `camera_connection.py`, so TLS, fingerprints and deadlines
are the same as for RTSP. FFmpeg's own HTTP client could not compare fingerprints, and would answer Basic challenges
from any peer. The client follows redirects only to paths on the same camera (`redirects.py`).
"""

from __future__ import annotations

import contextlib
import io
import socket
from dataclasses import replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from nvision_hub.media.sources import errors
from nvision_hub.media.sources.camera_connection import OpenDeadline, connect_camera
from nvision_hub.media.sources.http_auth import CameraAuth
from nvision_hub.media.sources.redirects import (
    MAX_REDIRECTS,
    is_redirect,
    redirect_path,
    redirected,
    redirected_too_often,
)

if TYPE_CHECKING:
    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources.camera_trust import CameraTrust

_OK: Final = 200
_UNAUTHORIZED: Final = 401
_MAX_IGNORED_BYTES: Final = 64 * 1024  # maximum bytes to read from a response before the request is repeated
# Compression does not shrink a JPEG, and a small compressed body could expand to a huge one.
_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "nvision-hub"}


class _Request(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes | None = None


class HttpCameraClient:
    """Client of one camera. If the camera has closed the connection between two requests, the client reconnects."""

    def __init__(self, camera: Camera, trust: CameraTrust) -> None:
        self.auth = CameraAuth(camera, trust)
        self._camera = camera
        self._trust = trust
        self._is_aborted = False
        url = urlsplit(replace(camera.address, username=None, password=None).dial())
        self._target = url._replace(scheme="", netloc="", fragment="", path=url.path or "/").geturl()
        self._base = url._replace(path="", query="", fragment="").geturl()
        self._connection = _Connection(camera, trust)

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the camera's certificate; None without TLS."""
        return self._connection.fingerprint

    @property
    def peer(self) -> str | None:
        """The IP address of the camera on the last connection; None before the first connection."""
        return self._connection.peer

    def get(self, deadline: OpenDeadline) -> HTTPResponse:
        """Request the camera's URL, and return the response, which has status 200. The caller must read its body.

        Raises `SourceError`. Reading the body may raise `OSError` or `HTTPException`, or `SourceError` after the
        deadline.
        """
        address, target = self._camera.address, self._target
        self._connection.deadline = deadline
        for _ in range(MAX_REDIRECTS + 1):
            response = self._answered(_Request("GET", target, _HEADERS), deadline)
            if is_redirect(response.status):
                path = redirect_path(address, self._base + target, response.headers.get("Location", ""))
                target = path if path.startswith("/") else f"/{path}"
            elif response.status == _OK:
                return response
            else:
                raise errors.refused(address, response.status)
        raise redirected_too_often(address)

    def post(
        self, target: str, body: bytes, content_type: str, deadline: OpenDeadline, *, max_bytes: int
    ) -> tuple[int, bytes]:
        """Send `body` to a path of the camera, and return the status and the body of the response.

        Raises `SourceError` if the request fails or the response is larger than `max_bytes`.
        """
        address = self._camera.address
        self._connection.deadline = deadline
        response = self._answered(_Request("POST", target, {**_HEADERS, "Content-Type": content_type}, body), deadline)
        if is_redirect(response.status):
            response.close()
            raise redirected(address)
        try:
            content = response.read(max_bytes + 1)
        except TimeoutError as error:
            raise errors.stalled(address, deadline.timeout_s) from error
        except (HTTPException, OSError, ValueError) as error:
            raise errors.incomplete(address) from error
        if len(content) > max_bytes:
            self._connection.close()
            raise errors.too_long(address)
        return response.status, content

    def _answered(self, request: _Request, deadline: OpenDeadline) -> HTTPResponse:
        """Send a request. If the camera asks for credentials, repeat the request with them.

        Return the last response.
        """
        address = self._camera.address
        try:
            response = self._send(request)
            if self._should_repeat(request, response):
                if request.body is not None:
                    self._ignore_body(response)
                deadline.on_answered()
                self.auth.on_challenge(response.headers.get_all("WWW-Authenticate") or [])
                response = self._send(request)
            deadline.on_answered()
        except TimeoutError as error:
            raise errors.stalled(address, deadline.timeout_s) from error
        except OSError as error:  # includes `RemoteDisconnected`, which is also an `HTTPException`
            raise errors.hung_up(address) from error
        except HTTPException as error:
            raise errors.no_http(address) from error
        return response

    def _should_repeat(self, request: _Request, response: HTTPResponse) -> bool:
        """Return whether to repeat the request with credentials, because the camera asks for them.

        If the WWW-Authenticate header is missing, an ONVIF device asks for a login in the body instead
        (`onvif/client.py`).
        """
        is_refused = response.status == _UNAUTHORIZED and self.auth.has_credentials
        return is_refused and (request.body is None or "WWW-Authenticate" in response.headers)

    def remove_deadline(self) -> None:
        """Remove the time limit for reads of the current response."""
        self._connection.remove_deadline()

    def abort(self) -> None:
        """Shut the connection down, which makes reads return. Any thread may call this method."""
        self._is_aborted = True
        self._connection.abort()

    def close(self) -> None:
        self._connection.close()

    def _send(self, request: _Request) -> HTTPResponse:
        """Send one request. If the camera has closed the connection since the last request, reconnect once."""
        header = self.auth.header(request.method, request.target)
        authorization = {} if header is None else {"Authorization": header.encode("utf-8", "surrogateescape")}
        is_reused = self._connection.sock is not None
        try:
            return self._exchange(request, authorization)
        except ConnectionError:
            self._connection.close()
            if not is_reused or self._is_aborted:
                raise
            return self._exchange(request, authorization)

    def _exchange(self, request: _Request, authorization: dict[str, bytes]) -> HTTPResponse:
        self._connection.request(
            request.method, request.target, body=request.body, headers={**request.headers, **authorization}
        )
        response = self._connection.getresponse()
        if response.status != _OK and request.body is None:
            self._ignore_body(response)
        return response

    def _ignore_body(self, response: HTTPResponse) -> None:
        response.read(_MAX_IGNORED_BYTES)
        if not response.isclosed():
            self._connection.close()


class _Connection(HTTPConnection):
    """HTTP over an identified connection. If there is a `deadline`, each read ends at that time."""

    def __init__(self, camera: Camera, trust: CameraTrust) -> None:
        address = camera.address
        super().__init__(address.host, address.dialed_port)
        self.default_port = address.schemes[address.scheme]  # the Host header omits this port
        self.deadline: OpenDeadline | None = None
        self.fingerprint: str | None = None
        self.peer: str | None = None  # IP address of the camera; it remains after the camera closes the connection
        self._camera = camera
        self._trust = trust
        self._raw: socket.socket | None = None

    def connect(self) -> None:
        assert self.deadline is not None  # noqa: S101 - `get` sets it
        self._raw, self.fingerprint = connect_camera(self._camera, self._trust, self.deadline)
        with contextlib.suppress(OSError):  # the camera has already disconnected
            self.peer = str(self._raw.getpeername()[0])
        self.sock: Any = _DeadlineSocket(self._raw, self)

    def remove_deadline(self) -> None:
        self.deadline = None
        if self._raw is not None:
            self._raw.settimeout(None)

    def abort(self) -> None:
        if (raw := self._raw) is not None:
            with contextlib.suppress(OSError):  # the connection is already closed
                # Do not use `SSLSocket.shutdown`: the reader could then read encrypted bytes as text.
                socket.socket.shutdown(raw, socket.SHUT_RDWR)


class _DeadlineSocket:
    """Part of the socket interface that `HTTPConnection` uses. Reads and writes end at the connection's deadline."""

    def __init__(self, raw: socket.socket, connection: _Connection) -> None:
        self._raw = raw
        self._connection = connection

    def sendall(self, data: bytes) -> None:
        self.limit()
        self._raw.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._raw.makefile("rb", buffering=0), self))

    def limit(self) -> None:
        if self._connection.deadline is not None:
            self._raw.settimeout(self._connection.deadline.left_s())

    def close(self) -> None:
        self._raw.close()


class _DeadlineReader(io.RawIOBase):
    def __init__(self, raw: socket.SocketIO, limited: _DeadlineSocket) -> None:
        self._raw = raw
        self._limited = limited

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._limited.limit()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
