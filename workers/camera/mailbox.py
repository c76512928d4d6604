"""One slot between capture and uplink: the newest picture wins, and whoever is overwritten is told of."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One JPEG that is ready to leave. `captured_mono` is monotonic, `captured_at` is seconds since the epoch."""

    jpeg: bytes
    width: int
    height: int
    captured_mono: float
    captured_at: float | None  # None where it cannot be known


class Mailbox:
    """`put` from the capture thread, `take` in the event loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._slot: Frame | None = None
        self._filled = asyncio.Event()

    def put(self, frame: Frame) -> bool:
        """Leave a frame; True where it took the place of one that was never taken."""
        with self._lock:
            overwritten, self._slot = self._slot is not None, frame
        if not overwritten:
            self._loop.call_soon_threadsafe(self._filled.set)
        return overwritten

    def clear(self) -> bool:
        """Throw away what lies here; whether anything did. From the loop that made it."""
        with self._lock:
            lay_there, self._slot = self._slot is not None, None
            self._filled.clear()
        return lay_there

    async def take(self) -> Frame:
        """The newest frame, as soon as there is one."""
        while True:
            await self._filled.wait()
            with self._lock:
                frame, self._slot = self._slot, None
                self._filled.clear()
            if frame is not None:
                return frame
