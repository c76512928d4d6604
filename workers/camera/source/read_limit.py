"""Ends a read that lasts too long, by shutting down the connection that it waits on.

PyAV has a time-out of its own for reads. FFmpeg then calls it back at each wait on a socket, three times for every RTP
packet, and each call takes Python's lock: an eighth of what an MJPEG camera of 24 Mbit/s costs, measured. FFmpeg's own
option begins anew with every byte, so that a camera which drips, or sends reports and no picture, never meets it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_AGAIN_S: Final = 1.0  # a connection that was cut, and still nobody comes back from its read

Sockets = set[tuple[int, int]]  # each with its inode: a number alone may have become another's


class ReadLimit:
    """One reader's. A thread of its own looks on; `close` ends it."""

    def __init__(self, limit_s: float, cut: Callable[[], None]) -> None:
        self.passed = False  # whether a read was ever cut short
        self._limit_s = limit_s
        self._cut = cut
        self._since: float | None = None  # monotonic; None while nobody reads
        self._closed = threading.Event()
        threading.Thread(target=self._look_on, name="read limit", daemon=True).start()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """While a read lasts."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def _look_on(self) -> None:
        left_s = self._limit_s
        while not self._closed.wait(left_s):
            since = self._since
            left_s = self._limit_s if since is None else since + self._limit_s - time.monotonic()
            if left_s <= 0:
                self.passed = True
                self._cut()
                left_s = _AGAIN_S

    def close(self) -> None:
        """Nothing more is cut."""
        self._closed.set()


def open_sockets() -> Sockets:
    """All of this process."""
    found: Sockets = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them, or another thread's that has just ended
            known = os.fstat(int(entry.name))
            if stat.S_ISSOCK(known.st_mode):
                found.add((int(entry.name), known.st_ino))
    return found


def shut_down(sockets: Sockets, port: int) -> None:
    """End those of `sockets` that are connected to a port; whoever reads from one is told of its end."""
    for number, inode in sockets:
        with contextlib.suppress(OSError), contextlib.ExitStack() as done:
            copy = os.dup(number)
            done.callback(os.close, copy)
            if os.fstat(copy).st_ino == inode:
                connection = socket.socket(fileno=copy)
                done.callback(connection.detach)
                if connection.getpeername()[1] == port:
                    connection.shutdown(socket.SHUT_RDWR)
