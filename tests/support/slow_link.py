"""TCP relay with a long round-trip time, like a satellite link or a congested mobile network."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class SlowLink:
    """Relay to `port_behind` that delays each byte by half of `round_trip_s`.

    The kernel accepts connections immediately, so the relay adds the round trip of the handshake to the first bytes.
    """

    def __init__(self, port_behind: int, round_trip_s: float) -> None:
        self._port_behind, self._round_trip_s = port_behind, round_trip_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port_behind))
                for source, target, extra_s in ((client, server, self._round_trip_s), (server, client, 0.0)):
                    passing: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                    threading.Thread(target=self._receive, args=(source, passing, extra_s), daemon=True).start()
                    threading.Thread(target=self._send, args=(target, passing), daemon=True).start()

    def _receive(self, source: socket.socket, passing: queue.SimpleQueue[tuple[float, bytes]], extra_s: float) -> None:
        first_due = time.monotonic() + extra_s
        data = b"x"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            passing.put((max(first_due, time.monotonic()) + self._round_trip_s / 2, data))

    def _send(self, target: socket.socket, passing: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        with target, contextlib.suppress(OSError):
            while True:
                due, data = passing.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    target.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def slow_link() -> Iterator[Callable[..., SlowLink]]:
    """Start a relay: `slow_link(camera.port, round_trip_s=3.0)`."""
    started: list[SlowLink] = []

    def start(port: int, *, round_trip_s: float) -> SlowLink:
        started.append(SlowLink(port, round_trip_s))
        return started[-1]

    yield start
    for link in started:
        link.close()
