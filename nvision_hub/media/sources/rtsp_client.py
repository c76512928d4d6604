"""RTSP client up to DESCRIBE (RFC 2326), and later requests with credentials on the same connection.

The client distinguishes errors that FFmpeg reports alike: connection refused, no response, access denied, busy, and no
video. It follows redirects only to paths on the same camera, and makes only one attempt with a wrong password.
`rtsp_relay.py` then connects FFmpeg to this client's connection.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from nvision_hub.media.sources import errors
from nvision_hub.media.sources.camera_connection import OpenDeadline, connect_camera
from nvision_hub.media.sources.http_auth import CameraAuth
from nvision_hub.media.sources.redirects import MAX_REDIRECTS, is_redirect, redirect_path, redirected_too_often
from nvision_hub.media.sources.rtsp_messages import RtspMessage, RtspReader, RtspSyntaxError, RtspTooLongError

if TYPE_CHECKING:
    from nvision_hub.config.camera_address import CameraAddress
    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources.camera_trust import CameraTrust

USER_AGENT: Final = "nvision-hub"
_READ_BYTES: Final = 4096
_UNAUTHORIZED: Final = 401


def describe_stream(camera: Camera, trust: CameraTrust, *, timeout_s: float) -> RtspClient:
    """Request the stream's description, and return the open connection.

    Raises `SourceError` if the camera cannot stream or does not answer within `timeout_s` seconds.
    """
    address = camera.address
    deadline = OpenDeadline(address, timeout_s)
    path = urlsplit(address.dial())._replace(scheme="", netloc="", fragment="").geturl()
    for _ in range(MAX_REDIRECTS + 1):
        with contextlib.ExitStack() as undo:
            client = undo.enter_context(contextlib.closing(RtspClient(camera, trust, path, deadline)))
            for method in ("OPTIONS", "DESCRIBE"):
                response = client.request(method)
                if is_redirect(response.status):
                    path = redirect_path(address, client.base + path, (response.values("Location") or [""])[0])
                    break
                _check(address, method, response)
            else:
                undo.pop_all()
                return client
    raise redirected_too_often(address)


class RtspClient:
    """Connection to a camera. `path` is the final path after redirects, including the query."""

    def __init__(self, camera: Camera, trust: CameraTrust, path: str, deadline: OpenDeadline) -> None:
        self.path = path
        self.camera, self.trust = camera, trust
        self.address = address = camera.address
        self.auth = CameraAuth(camera, trust)
        self.received: deque[bytes | RtspMessage] = deque()  # parsed but not used yet
        self._reader = RtspReader()
        self.responses: dict[str, RtspMessage] = {}  # the last response to each method
        host = f"[{address.host}]" if ":" in address.host else address.host
        self.base = f"{address.scheme}://{host}" + ("" if address.port is None else f":{address.port}")
        self._deadline = deadline
        self._sequence = 0
        self.socket, self.fingerprint = connect_camera(camera, trust, deadline)

    @property
    def url(self) -> str:
        return self.base + self.path

    def close(self) -> None:
        self.socket.close()

    def request(self, method: str) -> RtspMessage:
        """Send a request, and answer one challenge with the credentials. Return the camera's response."""
        message = RtspMessage(f"{method} {self.url} RTSP/1.0", (("User-Agent", USER_AGENT),))
        if method == "DESCRIBE":
            message = message.with_header("Accept", "application/sdp")
        response = self._exchange(message)
        if self.should_repeat(response):
            response = self._exchange(message)
        self.responses[method] = response
        return response

    def should_repeat(self, response: RtspMessage) -> bool:
        """Return whether to repeat the request with credentials, because the camera asks for them.

        If the camera has refused the credentials, it would count a repeated request as one more wrong password.
        """
        if response.status != _UNAUTHORIZED or not self.auth.has_credentials:
            return False
        challenges = response.values("WWW-Authenticate")
        if self.auth.is_challenged and not any("stale=true" in each.lower().replace('"', "") for each in challenges):
            return False
        self.auth.on_challenge(challenges)
        return True

    def prepared(self, message: RtspMessage) -> tuple[int, bytes]:
        """Number a request, and add credentials if required. Return the number and the encoded request."""
        self._sequence += 1
        method, _, rest = message.start.partition(" ")
        authorization = self.auth.header(method, rest.partition(" ")[0])
        numbered = message.with_header("CSeq", str(self._sequence)).with_header("Authorization", authorization)
        return self._sequence, numbered.encode()

    def _exchange(self, message: RtspMessage) -> RtspMessage:
        _, request = self.prepared(message)
        try:
            self.socket.settimeout(self._deadline.left_s())
            self.socket.sendall(request)
            response = self._read_response()
        except TimeoutError as error:
            raise errors.stalled(self.address, self._deadline.timeout_s) from error
        except OSError as error:
            raise errors.hung_up(self.address) from error
        self._deadline.on_answered()
        return response

    def _read_response(self) -> RtspMessage:
        while True:
            while self.received:
                if isinstance(message := self.received.popleft(), RtspMessage) and message.is_response:
                    return message
            self.socket.settimeout(self._deadline.left_s())
            data = self.socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError
            self.received += self.parsed(data)

    def parsed(self, data: bytes) -> list[bytes | RtspMessage]:
        """Parse the media packets and messages in `data`. Raises `SourceError` if the camera does not speak RTSP."""
        try:
            return list(self._reader.feed(data))
        except RtspTooLongError as error:
            raise errors.too_long(self.address) from error
        except RtspSyntaxError as error:
            raise errors.no_rtsp(self.address) from error

    def allow_media(self) -> None:
        """From now on, skip stray bytes, which some cameras send between media packets."""
        self._reader.resyncs = True


def _check(address: CameraAddress, method: str, response: RtspMessage) -> None:
    match response.status:
        case 200 if method == "DESCRIBE" and b"m=video" not in response.body:
            raise errors.no_video(address)
        case 200:
            return
        case code if method == "OPTIONS" and code in {405, 501, 551}:
            return  # the camera does not support OPTIONS, but only the response to DESCRIBE matters
        case code:
            raise errors.refused(address, code)
