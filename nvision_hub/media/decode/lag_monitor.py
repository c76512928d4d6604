"""Lag monitor: counts due frames that were lost because they were late, and finds the cause. Performs no I/O.

Either the machine is too busy and packets wait, or the network is too slow and the machine waits for packets. While the
stream is behind, the monitor compares the time spent working with the time spent waiting for packets. A busy machine
hardly waits, because the next packet has already arrived.
"""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_S: Final = 15.0  # the warning covers the current window and the previous window
_MIN_SHARE: Final = 0.05  # lost frames as a fraction of the due frames
_MIN_LOST: Final = 2  # one lost frame does not indicate a lasting problem
_BEHIND_S: Final = 0.2  # working and waiting times count only while the stream is further behind than this


class LagMonitor:
    """Lag monitor of one stream. All times are monotonic seconds."""

    def __init__(self) -> None:
        # Sums of the previous window and of the current window.
        self._windows = deque([dict.fromkeys(("sent", "lost", "worked_s", "waited_s"), 0.0)] * 2, maxlen=2)
        self._began = float("-inf")  # start of the current window

    def add_packet(self, *, arrived: float, late_s: float, waited_s: float, worked_s: float) -> None:
        """Add a packet that arrived `late_s` seconds after its capture.

        The reader waited `waited_s` seconds for this packet after it worked `worked_s` seconds on the previous packet.
        """
        if arrived - self._began >= WINDOW_S:
            self._windows.append(dict.fromkeys(self._windows[-1], 0.0))
            self._began = arrived
        if late_s > _BEHIND_S:
            self._windows[-1]["worked_s"] += worked_s
            self._windows[-1]["waited_s"] += waited_s

    def add_sent(self) -> None:
        self._windows[-1]["sent"] += 1

    def add_lost(self) -> None:
        self._windows[-1]["lost"] += 1

    def warning(self) -> str | None:
        """Return the cause and the fix as a message; None if few frames are lost."""
        total = {key: sum(window[key] for window in self._windows) for key in self._windows[0]}
        lost = total["lost"]
        due = lost + total["sent"]
        if lost < _MIN_LOST or lost < _MIN_SHARE * due:
            return None
        share = f"{100 * lost / due:.0f} % of the due frames"
        if total["worked_s"] > total["waited_s"]:
            return (
                f"this machine is too busy: {share} are not decoded in time; run fewer cameras on it, or lower their "
                "`fps`"
            )
        return f"{share} arrive too late; check the network connection to the camera, or lower the camera's bitrate"
