"""Read timeout, which shuts down a connection if one read takes too long.

PyAV's own read timeout costs too much: FFmpeg calls PyAV at each wait on a socket, three times per RTP packet, and each
call acquires the GIL. For an MJPEG camera that sends 24 Mbit/s, these calls take an eighth of the CPU time (measured).
FFmpeg's own timeout restarts with every byte. It therefore never expires for a camera that sends single bytes, or RTCP
reports but no video.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RETRY_INTERVAL_S: Final = 1.0  # time between shutdowns while the read has not returned


class ReadTimeout:
    """Timeout of one reader, enforced by a thread that `close` ends. If `timeout_s` is None, reads never time out."""

    def __init__(self, timeout_s: float | None, on_timeout: Callable[[], None]) -> None:
        self.expired = False  # whether a read has ever timed out
        self._on_timeout = on_timeout
        self._since: float | None = None  # start of the current read (monotonic seconds); None between reads
        self._closed = threading.Event()
        if timeout_s is not None:
            threading.Thread(target=self._run, args=(timeout_s,), name="read timeout", daemon=True).start()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Apply the timeout to the single read in the body of the `with` statement."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def _run(self, timeout_s: float) -> None:
        left_s = timeout_s
        while not self._closed.wait(left_s):
            since = self._since
            left_s = timeout_s if since is None else since + timeout_s - time.monotonic()
            if left_s <= 0:
                self.expired = True
                self._on_timeout()
                left_s = _RETRY_INTERVAL_S

    def close(self) -> None:
        """End the thread. Reads no longer time out after this call."""
        self._closed.set()
