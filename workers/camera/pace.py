"""The cameras of a hub take turns to come back to a service, so that its return is not the next thing to end it.

Random waits alone do not do: where fifty cameras each come back within 8 s, a quarter of them still do in one second.
Turns are handed out through a file that all of them share: it holds the moment (CLOCK_MONOTONIC) of the next free one.
The kernel lets go of the lock of a process that dies, and nobody waits for that of one which is stopped.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

TRIES: Final = 20
_MOMENT: Final = struct.Struct("d")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """One process's way to the turns in `file`; to a turn at random where that is None or cannot be used."""

    file: Path | None = None
    every_s: float = 0.125  # 50 cameras within 6 s, 8 of them (16 %) a second
    # A larger fleet is not queued for longer: its later members come at random moments within this, evenly by number.
    ahead_s: float = 6.25
    rng: random.Random = field(default_factory=random.Random)

    async def wait(self) -> None:
        """Until it is this process's turn."""
        if self.file is None:
            return
        try:
            turn = await self._take(self.file)
        except OSError:  # a full disk, no descriptors left: no reason to stay away for longer than need be
            turn = None
        now = time.monotonic()
        await asyncio.sleep(self.rng.uniform(0.0, self.ahead_s) if turn is None else max(0.0, turn - now))

    async def _take(self, file: Path) -> float | None:
        """The moment of a turn, now taken; None where none is free soon, or the lock never was."""
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for _ in range(TRIES):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(self.rng.uniform(0.001, 0.01))
                else:
                    return self._next(descriptor)
            return None
        finally:
            os.close(descriptor)

    def _next(self, descriptor: int) -> float | None:
        now = time.monotonic()
        data = os.pread(descriptor, _MOMENT.size, 0)
        (free,) = _MOMENT.unpack(data) if len(data) == _MOMENT.size else (now,)
        if not free <= now + self.ahead_s + self.every_s:  # from before the machine's last start, or no number
            free = now
        turn = max(now, free)
        if turn > now + self.ahead_s:
            return None
        os.pwrite(descriptor, _MOMENT.pack(turn + self.every_s), 0)
        return float(turn)
