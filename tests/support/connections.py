"""Clients that keep many connections to a server open but send nothing, or only part of a request."""

from __future__ import annotations

import resource
import selectors
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(kw_only=True)
class ConnectionFlood:
    """`count` connections to `address`. `refill` replaces the connections that the server has closed."""

    address: tuple[str, int]
    count: int
    first_bytes: bytes = b""  # data to send on each connection
    sources: tuple[str, ...] = ("127.0.0.1",)  # addresses of this machine, used in turn
    opened: int = 0
    _selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)

    def __enter__(self) -> Self:
        needed = self.count + 500
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < needed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
        self.refill()
        return self

    def refill(self, timeout_s: float = 0.0) -> None:
        """Wait up to `timeout_s` for the server to close connections. Open new connections in their place."""
        for key, _ in self._selector.select(timeout_s):
            self._close(key.fileobj)
        while len(self._selector.get_map()) < self.count:
            source = self.sources[self.opened % len(self.sources)]
            connection = socket.create_connection(self.address, timeout=60, source_address=(source, 0))
            self._selector.register(connection, selectors.EVENT_READ)
            self.opened += 1
            try:
                connection.sendall(self.first_bytes)
            except OSError:  # the server has already closed the connection
                self._close(connection)

    def _close(self, connection: object) -> None:
        assert isinstance(connection, socket.socket)
        self._selector.unregister(connection)
        connection.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._selector.get_map().values()):
            self._close(key.fileobj)
        self._selector.close()


def memory_bytes(pid: int, kind: str = "VmHWM") -> int:
    """Return the memory of a process from /proc: its peak (VmHWM), or its current size (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {kind} in /proc/{pid}/status")
