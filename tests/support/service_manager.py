"""Service manager's end of the notify protocol: a socket that records each message with its sender and time."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CREDENTIALS = struct.Struct("3i")  # ucred: pid, uid, gid


@dataclass(frozen=True, kw_only=True)
class Notification:
    """One datagram."""

    at: float  # CLOCK_MONOTONIC
    pid: int
    lines: tuple[str, ...]


class ServiceManager:
    """A service manager that listens until `close`. `address` is the value of NOTIFY_SOCKET."""

    def __init__(self, path: Path | None = None) -> None:
        """Listen on a socket at `path`. None means an abstract socket, which has no file."""
        self.address = f"@nvision-hub-test-{secrets.token_hex(8)}" if path is None else str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0{self.address[1:]}" if path is None else self.address)
        self._notifications: list[Notification] = []
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
            pid, _, _ = _CREDENTIALS.unpack(ancillary[0][2])
            if pid == os.getpid():
                return
            with self._arrived:
                lines = tuple(data.decode().split("\n"))
                self._notifications.append(Notification(at=time.monotonic(), pid=pid, lines=lines))
                self._arrived.notify_all()

    @property
    def notifications(self) -> list[Notification]:
        """All notifications so far."""
        with self._arrived:
            return list(self._notifications)

    def with_line(self, beginning: str, *, since: float = float("-inf")) -> list[Notification]:
        """Return the notifications with a line that starts with `beginning`."""
        recent = (it for it in self.notifications if it.at > since)
        return [it for it in recent if any(line.startswith(beginning) for line in it.lines)]

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Wait until the condition is true. On failure, show the notifications so far."""
        with self._arrived:
            assert self._arrived.wait_for(condition, timeout_s), self._notifications

    def silent_for(self, seconds: float) -> bool:
        """Return whether no notification arrives within the next `seconds`."""
        known = len(self.notifications)
        with self._arrived:
            return not self._arrived.wait_for(lambda: len(self._notifications) > known, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(b"", address)  # wakes the listener, which stops when it receives a message from its own process
        self._thread.join(10)
        self._socket.close()
