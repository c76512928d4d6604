"""Latest-value slot between capture and uplink: the newest frame replaces the one before.

Frames of a pre-roll are an exception, because they arrive together and all of them are needed. The slot keeps the
pre-roll and the frames after it in one ordered queue. The number, size and age of these frames are limited.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Final

MAX_BEHIND: Final = 240  # frames; four seconds at the maximum rate
MAX_BEHIND_BYTES: Final = 32 * 2**20
MAX_BEHIND_S: Final = 15.0  # older frames are not worth sending


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedFrame:
    """JPEG to send. `captured_mono` is in monotonic seconds, and `captured_at` in seconds since the epoch."""

    jpeg: bytes
    width: int
    height: int
    captured_mono: float
    captured_at: float | None  # None if unknown
    behind: bool = False  # whether a pre-roll delayed the frame, so that the frame's age does not measure latency


class LatestFrameSlot:
    """Slot for encoded frames. The capture thread calls only `put`, and the event loop calls all other methods."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._frames: deque[EncodedFrame] = deque()  # at most one frame, except during a pre-roll
        self._filled = asyncio.Event()

    def put(self, frame: EncodedFrame) -> int:
        """Store a frame. Return the number of unsent frames that the slot dropped to make room."""
        with self._lock:
            unsent = len(self._frames)
            if self._frames and self._frames[-1].behind:
                frame = replace(frame, behind=True)  # the frame must wait for the pre-roll
            if not frame.behind:
                self._frames.clear()
            self._frames.append(frame)
            size_bytes = sum(len(each.jpeg) for each in self._frames)
            while len(self._frames) > 1 and (
                len(self._frames) > MAX_BEHIND
                or size_bytes > MAX_BEHIND_BYTES
                or frame.captured_mono - self._frames[0].captured_mono > MAX_BEHIND_S
            ):
                size_bytes -= len(self._frames.popleft().jpeg)
            overwritten = unsent + 1 - len(self._frames)
        if not unsent:
            self._loop.call_soon_threadsafe(self._filled.set)
        return overwritten

    def clear(self) -> int:
        """Remove all frames and return their number."""
        with self._lock:
            self._filled.clear()
            removed = len(self._frames)
            self._frames.clear()
            return removed

    async def get(self) -> EncodedFrame:
        """Wait for a frame. Return the newest frame, or the oldest frame of a pre-roll."""
        while True:
            await self._filled.wait()
            with self._lock:
                if self._frames:
                    return self._frames.popleft()
                self._filled.clear()
