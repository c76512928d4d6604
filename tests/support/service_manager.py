"""The service manager's end of the notify protocol: a socket that notes what is told, by whom and when."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CREDENTIALS = struct.Struct("3i")  # ucred: pid, uid, gid


@dataclass(frozen=True, kw_only=True)
class Note:
    """One datagram."""

    at: float  # CLOCK_MONOTONIC
    pid: int
    lines: tuple[str, ...]


class ServiceManager:
    """Listens until it is closed; `address` is what belongs into NOTIFY_SOCKET."""

    def __init__(self, path: Path | None = None) -> None:
        """On a socket of that path; on an abstract one, which has no file, where that is None."""
        self.address = f"@nvision-hub-test-{secrets.token_hex(8)}" if path is None else str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0{self.address[1:]}" if path is None else self.address)
        self._notes: list[Note] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
            pid, _, _ = _CREDENTIALS.unpack(ancillary[0][2])
            if pid == os.getpid():
                return
            with self._news:
                self._notes.append(Note(at=time.monotonic(), pid=pid, lines=tuple(data.decode().split("\n"))))
                self._news.notify_all()

    @property
    def notes(self) -> list[Note]:
        """All that was told so far."""
        with self._news:
            return list(self._notes)

    def told(self, beginning: str, *, since: float = float("-inf")) -> list[Note]:
        """The notes with such a line."""
        return [note for note in self.notes if note.at > since and any(it.startswith(beginning) for it in note.lines)]

    def wait_until(self, condition: Callable[[], bool], within_s: float = 40.0) -> None:
        """Wait for notes until the condition holds; fails with what was told."""
        with self._news:
            assert self._news.wait_for(condition, within_s), self._notes

    def silent_for(self, seconds: float) -> bool:
        """Whether nothing at all is told for so long from now on."""
        known = len(self.notes)
        with self._news:
            return not self._news.wait_for(lambda: len(self._notes) > known, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(b"", address)  # wakes the listener, which knows its own process
        self._thread.join(10)
        self._socket.close()
