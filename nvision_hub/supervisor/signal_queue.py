"""Queue of the signals that the supervisor's process receives."""

from __future__ import annotations

import contextlib
import signal
import socket
from typing import Final, Self

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class SignalQueue:
    """Queue of SIGTERM, SIGINT and SIGHUP in order of arrival. A queued signal makes `fileno` readable.

    Python writes the number of each signal into a socket, which wakes the selector. The handlers do nothing, because a
    handler that takes a lock could deadlock with the interrupted code.
    """

    def __enter__(self) -> Self:
        self._readable, self._writable = socket.socketpair()
        self._readable.settimeout(0)
        self._writable.settimeout(0)
        self._handlers = {number: signal.signal(number, lambda _number, _frame: None) for number in _SIGNALS}
        signal.set_wakeup_fd(self._writable.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._readable.close()
        self._writable.close()

    def fileno(self) -> int:
        return self._readable.fileno()

    def pop(self) -> signal.Signals | None:
        """Remove and return the oldest signal; None if the queue is empty."""
        with contextlib.suppress(BlockingIOError):
            while received := self._readable.recv(1):
                if received[0] in _SIGNALS:  # skip signals that other handlers of this process catch
                    return signal.Signals(received[0])
        return None
