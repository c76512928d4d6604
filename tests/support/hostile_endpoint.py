"""HTTP endpoint that answers every request with a response that no endpoint should send."""

from __future__ import annotations

import contextlib
import re
import socketserver
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB: Final = 2**20
HUGE_BYTES: Final = 512 * MIB
DRIP_S: Final = 60.0


def _huge() -> Iterator[bytes]:
    yield b"HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n" % HUGE_BYTES
    for _ in range(HUGE_BYTES // MIB):
        yield bytes(MIB)


def _drip() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    end = time.monotonic() + DRIP_S
    while time.monotonic() < end:
        time.sleep(0.2)
        yield b"x"


def _endless_head() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for _ in range(HUGE_BYTES // MIB):
        yield b"x-pad: " + b"y" * MIB + b"\r\n"


def _tiny_chunks() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(1000):
        yield b"1\r\nx\r\n" * 10_000


class HostileEndpoint(socketserver.ThreadingTCPServer):
    """One endpoint. `kind` selects the answer and may change at any time. `requests` holds the received requests."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, victim: str) -> None:
        """`victim` is the URL to which the endpoint redirects."""
        self.requests: list[bytes] = []
        self.kind = "accepts"
        unavailable = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: %b\r\n\r\n"
        redirect = b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % victim.encode()
        self.answers: dict[str, Callable[[], Iterator[bytes]]] = {
            "late date": lambda: iter([unavailable % b"Wed, 21 Oct 99999999999 07:28:00 GMT"]),
            "many digits": lambda: iter([unavailable % (b"9" * 5000)]),
            "not a date": lambda: iter([unavailable % b"\xff, 99 Foo -1 +9999"]),
            "redirect": lambda: iter([redirect]),
            "huge body": _huge,
            "tiny chunks": _tiny_chunks,
            "endless head": _endless_head,
            "endless status": lambda: (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 for _ in range(1000)),
            "not HTTP": lambda: iter([b"\x00\xff" * 1000]),
            "nothing": lambda: iter([]),
            "drip": _drip,
            "accepts": lambda: iter([b"HTTP/1.1 204 OK\r\n\r\n"]),
        }
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, HostileEndpoint)
        with contextlib.suppress(OSError), self.request.makefile("rb") as received:
            while head := _head(received.readline):
                length = re.search(rb"(?im)^content-length: *(\d+)", head)
                self.server.requests.append(head + received.read(int(length[1]) if length else 0))
                for part in self.server.answers[self.server.kind]():
                    self.request.sendall(part)
                if self.server.kind != "accepts":
                    return


def _head(readline: Callable[[], bytes]) -> bytes:
    """Return the request line and the headers of the next request; empty at the end of the connection."""
    head = b""
    while line := readline():
        head += line
        if line == b"\r\n":
            return head
    return b""


@pytest.fixture
def hostile_endpoint() -> Iterator[Callable[[str], HostileEndpoint]]:
    """Start a hostile endpoint: `hostile_endpoint(victim_url)`."""
    started: list[HostileEndpoint] = []

    def start(victim: str) -> HostileEndpoint:
        started.append(HostileEndpoint(victim))
        return started[-1]

    yield start
    for endpoint in started:
        endpoint.shutdown()
        endpoint.server_close()
