"""Rate at which a camera should send now (from its schedule or configuration), and a check of the actual rate.

The caller passes the wall-clock time at least once a second. A jump of the clock thus takes effect within a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

from nvision_hub.budget.periods import time_zone
from nvision_hub.budget.schedule import DAY_NAMES, Window, active_window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvision_hub.runtime.status import CameraInfo

log = logging.getLogger("nvision_hub.camera")

SETTLED_S: Final = 15.0  # longer than the window of a measured rate (10 s), which must refill after a change
MIN_SHARE: Final = 0.8  # fraction of the target; the measured rate of a slow camera varies by one frame per window
MIN_CHECKED_FPS: Final = 0.5  # below this rate, a window contains too few frames

INTERVAL_S: Final = 1.0
_DAY_S: Final = 86400.0


class ScheduledRate:
    """Current rate and pause of one camera.

    The arguments `fps` and `is_paused` are the configured rate and the operator's pause. The properties of the same
    names also take the schedule into account.
    """

    def __init__(self, windows: Sequence[Window], zone: str, *, fps: float, is_paused: bool, wall: float) -> None:
        self._windows, self._zone = windows, time_zone(zone)
        self._fps, self._is_paused = fps, is_paused
        self._window: Window | None = None
        self._at = self._until = wall
        self.update(wall)

    @property
    def has_schedule(self) -> bool:
        return bool(self._windows)

    def configure(self, *, fps: float, is_paused: bool) -> None:
        """Change the configured rate and the operator's pause state."""
        self._fps, self._is_paused = fps, is_paused

    def update(self, wall: float) -> bool:
        """Advance to a wall-clock time in seconds since the epoch. Return whether the active entry has changed."""
        if self._at <= wall < self._until:
            self._at = wall
            return False
        before, (self._window, until) = self._window, active_window(self._windows, wall, self._zone)
        self._at, self._until = wall, float("inf") if until is None else until
        return self._window is not before

    async def follow(self, on_change: Callable[[], None]) -> None:
        """Compare the clock with the schedule every second until canceled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            if self.update(time.time()):
                log.info("schedule: %s", self.text or "no entry applies", extra={"event": "schedule_changed"})
                on_change()

    @property
    def fps(self) -> float:
        """Frames per second while the camera is not paused."""
        return self._fps if self._window is None or self._window.fps is None else self._window.fps

    @property
    def is_paused(self) -> bool:
        return self._is_paused or (self._window is not None and self._window.paused)

    @property
    def text(self) -> str | None:
        """The schedule's effect, such as `0.5/s until 06:00`; None while the schedule has no effect."""
        if self._window is None:
            return None
        rate = "paused" if self._window.paused else f"{self.fps:g}/s"
        if self._until == float("inf"):
            return rate
        local = datetime.fromtimestamp(self._until, self._zone)
        day = f"{DAY_NAMES[local.weekday()].capitalize()} " if self._until - self._at >= _DAY_S else ""
        return f"{rate} until {day}{local:%H:%M}"


class RateMonitor:
    """Comparison of a camera's actual rate with its target. A low rate counts only after it has lasted `SETTLED_S`."""

    def __init__(self) -> None:
        self._low_since: float | None = None

    def update(self, info: CameraInfo, *, is_streaming: bool, now: float) -> str | None:
        """Return a message while the camera sends clearly fewer frames than its target. `now` is in monotonic seconds.

        With motion detection or a limit on images, the camera sends fewer frames intentionally, so the monitor does not
        compare.
        """
        fps, sent = info.fps or 0.0, info.rate_out
        is_complete = info.moving is None and info.limited_by is None and fps >= MIN_CHECKED_FPS
        if not is_streaming or not is_complete or sent is None or sent >= MIN_SHARE * fps:
            self._low_since = None
            return None
        if self._low_since is None:
            self._low_since = now
        if now - self._low_since < SETTLED_S:
            return None
        cause = "the counts of dropped frames show the reason"
        if info.rate_in is not None and info.rate_in < MIN_SHARE * fps:
            cause = f"the camera delivers only {info.rate_in:.1f}; raise its frame rate, or lower fps"
        return f"sends {sent:.1f} of {fps:g} frames per second: {cause}"
