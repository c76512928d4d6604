"""Few cameras of a hub are dialled at once, so that a fleet that starts, or comes back, does not redial in step.

Slots are files, held by `flock`: shared between processes without a lock that a killed one could keep, since the
kernel lets go of it. A slot is given back when the camera is open, or after a short while: a dead camera takes its
whole time-out to say so, and must not hold up those that live.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOTS: Final = 8
HELD_AT_MOST_S: Final = 2.0
WAITED_AT_MOST_S: Final = 20.0  # then the camera is dialled all the same: late is better than never
_LOOKED_EVERY_S: Final = (0.03, 0.1)


class Turnstile:
    """One process's way to the slots in `directory`, which all cameras of the hub share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._rng = random.Random()  # noqa: S311 - spreads tries, guards nothing

    @contextlib.contextmanager
    def passed(self, stop: threading.Event) -> Iterator[None]:
        """Wait for a slot, hold it for the body or for `HELD_AT_MOST_S`. A set `stop` ends the wait."""
        slot = self._wait(stop)
        give_back = threading.Timer(HELD_AT_MOST_S, _close, [slot])
        give_back.daemon = True
        give_back.start()
        try:
            yield
        finally:
            give_back.cancel()
            _close(slot)

    def _wait(self, stop: threading.Event) -> list[int]:
        """A held slot, as a list of its one descriptor; an empty one where there was none in time."""
        waited = 0.0
        while waited < WAITED_AT_MOST_S:
            for number in self._rng.sample(range(SLOTS), SLOTS):
                try:
                    slot = self._open(number)
                except OSError:
                    return []  # a full disk, no descriptors left: cameras are dialled all the same
                try:
                    fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(slot)
                else:
                    return [slot]
            pause = self._rng.uniform(*_LOOKED_EVERY_S)
            if stop.wait(pause):
                break
            waited += pause
        return []

    def _open(self, number: int) -> int:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        return os.open(self._directory / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _close(slot: list[int]) -> None:
    # pop() is atomic: of the timer and the body, one closes the descriptor.
    with contextlib.suppress(IndexError, OSError):
        os.close(slot.pop())
