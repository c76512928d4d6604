"""What the service manager hears of a running hub: that it is up, that its supervisor still turns, how its cameras are.

The supervisor's own loop calls this, about twice a second. A loop that is stuck does not, and that silence is what the
manager's watchdog waits for; a timer or thread of its own would go on saying that all is well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from nvision_hub.notify import READY, STOPPING, WATCHDOG, Notify, status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.supervisor import Member

CAMERA: Final = "camera:"
READY_WITHIN_S: Final = (
    30.0  # with what there is by then: what a busy machine could not start yet is not a failed start
)
STATUS_EVERY_S: Final = 5.0


@dataclass(kw_only=True)
class ManagerNotes:
    """The notes of one run, in order. What could not be told is told at the next turn."""

    notify: Notify
    began: float = field(default_factory=time.monotonic)
    _ready: bool = False
    _stopping: bool = False
    _shown: str = ""
    _shown_at: float = float("-inf")

    def turned(self, members: Sequence[Member], stopping: bool) -> None:  # noqa: FBT001 - the supervisor's signature
        """The loop has come round once more."""
        now = time.monotonic()
        lines = self._due(members, stopping=stopping, now=now)
        if self.notify.tell(*lines):
            self._told(lines, now)

    def _due(self, members: Sequence[Member], *, stopping: bool, now: float) -> list[str]:
        lines = [] if self.notify.watchdog_s is None else [WATCHDOG]
        begun = all(member.tried is not None for member in members) or now - self.began > READY_WITHIN_S
        if begun and not (self._ready or stopping):
            lines.append(READY)
        if stopping and not self._stopping:
            lines.append(STOPPING)
        shown = status("stopping" if stopping else told(members))
        if shown != self._shown and (lines[-1:] in ([READY], [STOPPING]) or now - self._shown_at >= STATUS_EVERY_S):
            lines.append(shown)
        return lines

    def _told(self, lines: Sequence[str], now: float) -> None:
        self._ready = self._ready or READY in lines
        self._stopping = self._stopping or STOPPING in lines
        if lines[-1].startswith("STATUS="):
            self._shown, self._shown_at = lines[-1], now


def told(members: Sequence[Member]) -> str:
    """The fleet in one line, for people: `7 of 8 cameras stream; not running: broker`."""
    cameras = [member for member in members if member.spec.name.startswith(CAMERA)]
    streaming = sum(member.ready for member in cameras)
    missing = [member.spec.name for member in members if not member.alive]
    line = f"{streaming} of {len(cameras)} cameras stream"
    if not missing:
        return line
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""  # noqa: PLR2004 - as many as a line has room for
    return f"{line}; not running: {', '.join(missing[:3])}{more}"
