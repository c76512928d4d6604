"""Schedule of a camera: weekly windows, each with its own rate or without frames.

A window lasts while the local clock shows a time from `begin_min` (inclusive) to `end_min` (exclusive). A window that
includes midnight belongs to the day on which it begins. If the clock skips the beginning, the window begins at the
clock change. If the clock repeats the beginning, the window ends at the clock change and begins again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from nvision_hub.budget.periods import instant, offset_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

DAY_MIN: Final = 24 * 60
DAY_NAMES: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HORIZON_DAYS: Final = 8  # every window begins and ends within a week
_DAY_S: Final = 86400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One entry of a schedule. Times are minutes after midnight."""

    days: frozenset[int] = frozenset(range(7))  # day 0 is Monday
    begin_min: int = 0
    end_min: int = DAY_MIN  # less than `begin_min` if the window ends on the next day
    fps: float | None = None  # frames per second; None if the window does not change the rate
    paused: bool = False

    def includes(self, local: datetime) -> bool:
        """Return whether the window includes a local time."""
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.begin_min < self.end_min:
            return day in self.days and self.begin_min <= minute < self.end_min
        return (day in self.days and minute >= self.begin_min) or ((day - 1) % 7 in self.days and minute < self.end_min)


class ActiveWindow(NamedTuple):
    window: Window | None  # None outside all windows
    until: float | None  # seconds since the epoch at which the active window changes; None if never


def window_at(windows: Sequence[Window], at: float, zone: tzinfo) -> Window | None:
    """Return the first window that includes `at` (seconds since the epoch); None if no window does."""
    local = datetime.fromtimestamp(at, zone)
    return next((window for window in windows if window.includes(local)), None)


def active_window(windows: Sequence[Window], at: float, zone: tzinfo) -> ActiveWindow:
    """Return the window in effect at `at` (seconds since the epoch), and its end."""
    active = window_at(windows, at, zone)
    changes = (change for change in sorted(set(_candidates(windows, at, zone))) if change > at)
    return ActiveWindow(active, next((each for each in changes if window_at(windows, each, zone) is not active), None))


def _candidates(windows: Sequence[Window], at: float, zone: tzinfo) -> Iterator[float]:
    """Yield every instant of the next week at which the active window may change."""
    if not windows:
        return
    today = datetime.fromtimestamp(at, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    minutes = {0} | {minute for window in windows for minute in (window.begin_min, window.end_min)}
    for days in range(-1, _HORIZON_DAYS):
        for minute in minutes:
            local = today + timedelta(days=days, minutes=minute)
            yield instant(local, zone)
            yield instant(local, zone, fold=1)
        yield from _clock_change(at + days * _DAY_S, at + (days + 1) * _DAY_S, zone)


def _clock_change(begin: float, end: float, zone: tzinfo) -> Iterator[float]:
    """Yield the instant between `begin` and `end` at which the offset from UTC changes, if it changes."""
    before = offset_s(begin, zone)
    if before == offset_s(end, zone):
        return
    low, high = int(begin), int(end) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset_s(middle, zone) == before else (low, middle)
    yield float(high)
