"""Relay between a client and an RTSP camera that drops, corrupts and alters packets, and records requests.

The relay runs on loopback in front of a real server. Over TCP, it parses the interleaved packets (RFC 2326, 10.12).
Over UDP, it replaces the ports in SETUP with its own ports, and forwards the datagrams that arrive at these ports.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Alter = Callable[[bytearray, bool], bytes | bytearray | None]  # (packet, is RTCP) -> packet to forward, or None

_CLIENT_PORTS: Final = re.compile(rb"client_port=(\d+)-(\d+)")
_LENGTH: Final = re.compile(rb"(?im)^content-length:\s*(\d+)")


def _unchanged(packet: bytearray, _rtcp: bool, /) -> bytearray:  # noqa: FBT001 - the signature of every `Alter`
    return packet


@dataclass(kw_only=True)
class Line:
    """Relay to `port_behind`. `alter` may change at any time. `requests` contains the method of each request."""

    port_behind: int
    alter: Alter = _unchanged
    # Method, and whether the request contained a password.
    requests: list[tuple[str, bool]] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)  # path -> target of the redirect (302)
    packets: int = 0  # number of RTP packets received from the camera

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str = "/cam", userinfo: str = "") -> str:
        """Return the camera's URL through this relay."""
        return f"rtsp://{userinfo}127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _kept(self, new: socket.socket) -> socket.socket:
        with self._lock:
            self._open.append(new)
            if self._closed:
                new.close()
        return new

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                viewer, _ = self._listener.accept()
                self._kept(viewer)
                try:
                    camera = self._kept(socket.create_connection(("127.0.0.1", self.port_behind)))
                except OSError:
                    viewer.close()
                    continue
                for each in (viewer, camera):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ports: dict[bytes, bytes] = {}
                threading.Thread(target=self._from_viewer, args=(viewer, camera, ports), daemon=True).start()
                threading.Thread(target=self._from_camera, args=(viewer, camera, ports), daemon=True).start()

    def _from_viewer(self, viewer: socket.socket, camera: socket.socket, ports: dict[bytes, bytes]) -> None:
        with contextlib.suppress(OSError, EOFError), viewer.makefile("rb") as stream, camera:
            while True:
                kind, data = _next(stream.read)
                if kind == b"$":
                    camera.sendall(data)
                    continue
                self.requests.append((data.split(b" ", 1)[0].decode(), b"\r\nAuthorization:" in data))
                path = "/" + data.split(b" ", 2)[1].decode().split("/", 3)[-1]
                if path in self.redirects:
                    number = data.lower().partition(b"cseq:")[2].partition(b"\r\n")[0].decode()
                    moved = f"RTSP/1.0 302 Found\r\nCSeq:{number}\r\nLocation: {self.url(self.redirects[path])}\r\n\r\n"
                    viewer.sendall(moved.encode())
                    continue
                if found := _CLIENT_PORTS.search(data):
                    ours = b"client_port=%d-%d" % self._relay_datagrams(int(found[1]), int(found[2]))
                    ports[ours] = found[0]
                    data = data.replace(found[0], ours)
                camera.sendall(data)

    def _from_camera(self, viewer: socket.socket, camera: socket.socket, ports: dict[bytes, bytes]) -> None:
        with contextlib.suppress(OSError, EOFError), camera.makefile("rb") as stream, viewer:
            while True:
                kind, data = _next(stream.read)
                if kind == b"$":
                    passed = self._altered(bytearray(data[4:]), rtcp=bool(data[1] % 2))
                    if passed is not None:
                        viewer.sendall(data[:2] + len(passed).to_bytes(2) + passed)
                    continue
                for ours, theirs in ports.items():
                    data = data.replace(ours, theirs)
                viewer.sendall(data)

    def _altered(self, packet: bytearray, *, rtcp: bool) -> bytes | bytearray | None:
        self.packets += not rtcp
        return self.alter(packet, rtcp)

    def _relay_datagrams(self, rtp_port: int, rtcp_port: int) -> tuple[int, int]:
        """Open two ports, and forward the datagrams that arrive there to the client's ports."""
        ours = []
        for port, rtcp in ((rtp_port, False), (rtcp_port, True)):
            end = self._kept(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
            end.bind(("127.0.0.1", 0))
            ours.append(end.getsockname()[1])
            threading.Thread(target=self._datagrams, args=(end, port, rtcp), daemon=True).start()
        return ours[0], ours[1]

    def _datagrams(self, end: socket.socket, port: int, rtcp: bool) -> None:  # noqa: FBT001 - a thread's arguments
        with contextlib.suppress(OSError):
            while True:
                passed = self._altered(bytearray(end.recv(65536)), rtcp=rtcp)
                if passed is not None:
                    end.sendto(passed, ("127.0.0.1", port))


def _next(read: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """Return the next complete interleaved packet (`$`) or message. Raises `EOFError` at the end."""
    first = read(1)
    if first == b"$":
        head = read(3)
        return b"$", first + head + read(int.from_bytes(head[1:3]))
    data = first
    while not data.endswith(b"\r\n\r\n"):
        byte = read(1)
        if not byte:
            raise EOFError
        data += byte
    length = _LENGTH.search(data)
    return b"", data + (read(int(length[1])) if length else b"")


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    """Start a relay to a server's port: `line(camera.port, alter=...)`."""
    laid: list[Line] = []

    def lay(port: int, alter: Alter = _unchanged) -> Line:
        new = Line(port_behind=port, alter=alter)
        laid.append(new)
        return new

    yield lay
    for each in laid:
        each.close()
