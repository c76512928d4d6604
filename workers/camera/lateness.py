"""Pictures that were owed and lost because they came too late: how many, and what made them late. Pure.

Packets wait for a machine that is too busy to take them, or are waited for, where the network is too slow. Which of the
two it is shows while the stream is behind: whoever is too busy finds the next packet there already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 15.0  # judged over this one and the one before
TOLD_FROM: Final = 0.05  # of the pictures owed
LOST_LEAST: Final = 2  # one is an accident
BEHIND_S: Final = 0.2  # further behind than that, it is told who waits for whom


@dataclass(slots=True)
class _Window:
    began: float
    made: int = 0
    lost: int = 0
    worked_s: float = 0.0  # both while behind
    waited_s: float = 0.0


class Lateness:
    """One stream's. Told of by one thread; `sentence` may be read by another. All moments in monotonic seconds."""

    def __init__(self) -> None:
        self._before = self._now = _Window(began=float("-inf"))

    def turn(self, *, arrived: float, late_s: float, waited_s: float, worked_s: float) -> None:
        """A packet was waited for, and the one before it worked on, until it `arrived`, `late_s` after its capture."""
        if arrived - self._now.began >= WINDOW_S:
            self._before, self._now = self._now, _Window(began=arrived)
        if late_s > BEHIND_S:
            self._now.worked_s += worked_s
            self._now.waited_s += waited_s

    def made(self) -> None:
        """A picture that was owed is on its way."""
        self._now.made += 1

    def lost(self) -> None:
        """One is not, and never will be."""
        self._now.lost += 1

    def sentence(self) -> str | None:
        """What a person should know and can mend; None where few pictures are late."""
        windows = (self._before, self._now) if self._before is not self._now else (self._now,)
        lost = sum(window.lost for window in windows)
        owed = lost + sum(window.made for window in windows)
        if lost < LOST_LEAST or lost < TOLD_FROM * owed:
            return None
        share = f"{100 * lost / owed:.0f} % of the pictures owed"
        if sum(window.worked_s for window in windows) > sum(window.waited_s for window in windows):
            return (
                f"this machine is too busy: {share} are not decoded in time; "
                "run fewer cameras on it, or ask for fewer pictures"
            )
        return f"{share} come too late from the camera; check the network to it, or lower the camera's bit rate"
