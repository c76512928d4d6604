"""The first words with an RTSP camera, said by ourselves before FFmpeg dials it: OPTIONS and DESCRIBE on a socket.

FFmpeg follows a redirect to any host by itself, takes the password along, and has no option against either
(libavformat, rtsp.c: `goto redirect`). So a camera is asked first, at every dial, and one that sends us elsewhere is
not dialled. The same words tell apart what FFmpeg calls by one name: nobody there, nobody answering, refused, busy, no
video. A wrong password costs one try here, and none of FFmpeg's.

A camera that answers us well and redirects FFmpeg a moment later is not caught: that takes a camera built to do it.
Knows the protocol up to DESCRIBE (RFC 2326); no session is made, so nothing has to be torn down.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urljoin, urlsplit

from nvision_hub.status import CameraState
from workers.camera.source import faults
from workers.camera.source.authorization import Credentials, answer_to
from workers.camera.source.source import SourceError

if TYPE_CHECKING:
    from nvision_hub.config import CameraAddress

USER_AGENT: Final = "nvision-hub"
_REDIRECTS_MAX: Final = 3  # on the camera itself, from one path to another
_HELD_S: Final = 1.0
_HEAD_MAX_BYTES: Final = 16 * 1024
_BODY_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One response. Names of headers are in lower case; one that came several times has all its values."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    def header(self, name: str) -> str:
        """A header's first value; empty where there is none."""
        return self.headers.get(name, [""])[0]


class Greeting:
    """A camera that may be dialled: `path`, with its query, is another than that of its address after a redirect.

    The connection is held while FFmpeg makes its own, since a server that shares one pipeline between its viewers
    (GStreamer's) stops it with the last of them, and refuses whoever comes meanwhile. But not for long: the simplest
    cameras talk to one at a time.
    """

    def __init__(self, path: str, conversation: _Conversation) -> None:
        self.path = path
        self._conversation = conversation
        self._timer = threading.Timer(_HELD_S, conversation.hang_up)
        self._timer.daemon = True
        self._timer.start()

    def hang_up(self) -> None:
        """Let go of the connection. May be called twice."""
        self._timer.cancel()
        self._conversation.hang_up()


def greet(address: CameraAddress, *, within_s: float) -> Greeting:
    """Ask the camera for its description.

    Raises `SourceError` for whatever keeps it from streaming, after `within_s` seconds at the latest.
    """
    deadline = time.monotonic() + within_s
    path = urlsplit(address.dial())._replace(scheme="", netloc="", fragment="").geturl()
    for _ in range(_REDIRECTS_MAX + 1):
        with contextlib.ExitStack() as undo:
            camera = undo.enter_context(_Conversation(address, deadline, within_s))
            for method in ("OPTIONS", "DESCRIBE"):
                answer = camera.ask(method, path)
                if 300 <= answer.status < 400:  # noqa: PLR2004 - redirects (RFC 2326, 11.3)
                    path = _onward(address, camera.base + path, answer.header("location"))
                    break
                _check(address, method, answer)
            else:
                undo.pop_all()
                return Greeting(path, camera)
    raise SourceError(
        CameraState.NOT_FOUND, f"{address.shown} redirects in a circle; name the stream's final path in its `url`"
    )


class _Conversation:
    """One connection to the camera, and the requests made on it."""

    def __init__(self, address: CameraAddress, deadline: float, within_s: float) -> None:
        self._address = address
        self._deadline = deadline
        self._within_s = within_s
        self._sequence = 0
        self._received = b""
        self._challenges: list[str] = []  # the last ones; empty before the first
        self._answered = 0  # how many requests have answered them (RFC 7616's nonce count)
        self._credentials = Credentials.of(address)
        host, port = address.host or "", address.dialled_port or 0
        bracketed = f"[{host}]" if ":" in host else host
        self.base = f"{address.scheme}://{bracketed}" + ("" if address.port is None else f":{address.port}")
        self._socket = self._connect(host, port, encrypted=address.scheme == "rtsps")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """End the connection. May be called twice, and from any thread."""
        self._socket.close()

    def ask(self, method: str, path: str) -> Answer:
        """The camera's answer; to its challenge our credentials are given, once."""
        answer = self._exchange(method, path)
        if answer.status != 401 or self._credentials is None:  # noqa: PLR2004
            return answer
        challenges = answer.headers.get("www-authenticate", [])
        if self._challenges and not any("stale=true" in each.lower() for each in challenges):
            return answer  # refused: asked once more it would count as one more wrong password
        self._challenges, self._answered = challenges, 0
        return self._exchange(method, path)

    def _exchange(self, method: str, path: str) -> Answer:
        self._sequence += 1
        lines = [f"{method} {self.base}{path} RTSP/1.0", f"CSeq: {self._sequence}", f"User-Agent: {USER_AGENT}"]
        if method == "DESCRIBE":
            lines.append("Accept: application/sdp")
        if self._credentials is not None and self._challenges:
            self._answered += 1
            given = answer_to(self._challenges, self._credentials, method, self.base + path, self._answered)
            if given is None:
                raise SourceError(
                    CameraState.UNSUPPORTED,
                    f"{self._address.shown} asks for the password in an unknown way; set the camera to Digest or Basic",
                )
            lines.append(f"Authorization: {given}")
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
            return self._answer()
        except TimeoutError as error:
            raise faults.silent(self._address, self._within_s) from error
        except OSError as error:
            raise SourceError(
                CameraState.UNREACHABLE, f"{self._address.shown} hung up at once; check the camera"
            ) from error

    def _answer(self) -> Answer:
        while b"\r\n\r\n" not in self._received:
            self._receive(_HEAD_MAX_BYTES)
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *fields = head.decode("utf-8", "replace").split("\r\n")
        version, _, rest = first.strip().partition(" ")
        if not version.startswith("RTSP/") or not rest[:3].isdecimal():
            raise SourceError(
                CameraState.UNSUPPORTED,
                f"{self._address.shown} does not speak RTSP; check the port in this camera's `url`",
            )
        headers: dict[str, list[str]] = {}
        for field in fields:
            name, _, value = field.partition(":")
            headers.setdefault(name.strip().lower(), []).append(value.strip())
        length = headers.get("content-length", ["0"])[0]
        size = min(int(length), _BODY_MAX_BYTES) if length.isdecimal() else 0
        while len(self._received) < size:
            self._receive(_BODY_MAX_BYTES)
        body, self._received = self._received[:size], self._received[size:]
        return Answer(status=int(rest[:3]), headers=headers, body=body)

    def _receive(self, limit_bytes: int) -> None:
        self._socket.settimeout(self._left())
        data = self._socket.recv(4096)
        if not data:
            raise ConnectionResetError
        self._received += data
        if len(self._received) > limit_bytes:
            raise SourceError(
                CameraState.UNSUPPORTED, f"{self._address.shown} answers at endless length; check the port in its `url`"
            )

    def _connect(self, host: str, port: int, *, encrypted: bool) -> socket.socket:
        places = self._resolved(host, port)
        for left, (family, kind, protocol, _, place) in zip(range(len(places), 0, -1), places, strict=True):
            share_s = self._left() / left
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(share_s)
                connection.connect(place)
                connection.settimeout(self._left())
                return _encrypt(connection, host) if encrypted else connection
            except OSError as error:
                connection.close()
                if left == 1:
                    raise self._unreached(error) from error
            except SourceError:
                connection.close()
                raise
        raise SourceError(CameraState.UNREACHABLE, f"{self._address.shown} has no address; check its host name")

    def _resolved(self, host: str, port: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        """The host's addresses. On a thread of its own: a name server that is down holds its caller for a minute."""
        found: list[object] = []

        def resolve() -> None:
            with contextlib.suppress(OSError):
                found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

        thread = threading.Thread(target=resolve, name="resolve", daemon=True)
        thread.start()
        thread.join(self._left())
        if not found:
            raise SourceError(
                CameraState.UNREACHABLE,
                f"the host name in {self._address.shown} is not known; correct it, or check the name server",
            )
        return list(found)  # type: ignore[arg-type]  # getaddrinfo's own type is a union over families

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise faults.silent(self._address, self._within_s)
        return left

    def _unreached(self, error: OSError) -> SourceError:
        match error:
            case ConnectionRefusedError():
                return faults.nobody(self._address)
            case ssl.SSLError():
                return SourceError(
                    CameraState.UNREACHABLE,
                    f"{self._address.shown} does not speak TLS; try rtsp:// in place of rtsps://, or correct the port",
                )
            case _:
                return faults.away(self._address)


def _encrypt(connection: socket.socket, host: str) -> ssl.SSLSocket:
    # Cameras sign their own certificates and run the TLS of the year they were made, so neither is asked for more; it
    # is what FFmpeg does, too.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context.wrap_socket(connection, server_hostname=host)


def _onward(address: CameraAddress, here: str, location: str) -> str:
    """The path that a redirect leads to, on the same host and port. Raises `SourceError` for one that leaves it."""
    try:
        old, new = urlsplit(here), urlsplit(urljoin(here, location))
        same = (old.scheme, old.hostname, old.port or address.ports[old.scheme]) == (
            new.scheme,
            new.hostname,
            new.port or address.ports.get(new.scheme),
        )
    except ValueError:  # no address at all
        same = False
    if not location or not same or not location.isprintable():
        raise faults.moved(address)
    return new._replace(scheme="", netloc="", fragment="").geturl()


def _check(address: CameraAddress, method: str, answer: Answer) -> None:
    match answer.status:
        case 200 if method == "DESCRIBE" and b"m=video" not in answer.body:
            raise SourceError(CameraState.UNSUPPORTED, f"{address.shown} has no video; choose a path that has")
        case 200:
            return
        case 401 | 403:
            raise faults.refused(address)
        case 404 | 410:
            raise faults.not_there(address)
        case code if method == "OPTIONS" and code in {405, 501, 551}:
            return  # it knows no OPTIONS; DESCRIBE will tell
        case code:
            raise faults.busy(address, code)
