"""Between capture and uplink: the newest picture wins, and whoever is overwritten is told of.

One slot, but for what is behind: the pictures of the time before an alarm come all at once, and all of them are wanted.
They wait in a queue, in order, as does whatever is captured while it lasts; both are bounded, in number and in time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Final

BEHIND_MAX: Final = 240  # pictures: four seconds at the highest rate
BEHIND_MAX_BYTES: Final = 32 * 2**20
BEHIND_MAX_S: Final = 15.0  # older ones are no news any more


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One JPEG that is ready to leave. `captured_mono` is monotonic, `captured_at` is seconds since the epoch."""

    jpeg: bytes
    width: int
    height: int
    captured_mono: float
    captured_at: float | None  # None where it cannot be known
    behind: bool = False  # late on purpose: its age says nothing of how fast the way here is


class Mailbox:
    """`put` from the capture thread, everything else in the event loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._frames: deque[Frame] = deque()  # one, but while something is behind
        self._bytes = 0
        self._filled = asyncio.Event()

    def put(self, frame: Frame) -> int:
        """Leave a frame; how many that were never taken had to make room for it."""
        with self._lock:
            behind = bool(self._frames) and self._frames[-1].behind
            if not frame.behind and behind:
                frame = replace(frame, behind=True)  # it has to wait for those before it
            overwritten = 0
            if not frame.behind:
                overwritten = self._forget(len(self._frames))
            self._frames.append(frame)
            self._bytes += len(frame.jpeg)
            while len(self._frames) > 1 and self._too_much(frame.captured_mono):
                overwritten += self._forget(1)
            first = len(self._frames) == 1 and not overwritten
        if first:
            self._loop.call_soon_threadsafe(self._filled.set)
        return overwritten

    def _too_much(self, newest: float) -> bool:
        return (
            len(self._frames) > BEHIND_MAX
            or self._bytes > BEHIND_MAX_BYTES
            or newest - self._frames[0].captured_mono > BEHIND_MAX_S
        )

    def _forget(self, count: int) -> int:
        for _ in range(count):
            self._bytes -= len(self._frames.popleft().jpeg)
        return count

    def clear(self) -> int:
        """Throw away what lies here; how many frames that were."""
        with self._lock:
            self._filled.clear()
            return self._forget(len(self._frames))

    async def take(self) -> Frame:
        """The newest frame, or the oldest of those that are behind, as soon as there is one."""
        while True:
            await self._filled.wait()
            with self._lock:
                if self._frames:
                    frame = self._frames.popleft()
                    self._bytes -= len(frame.jpeg)
                    if not self._frames:
                        self._filled.clear()
                    return frame
                self._filled.clear()
