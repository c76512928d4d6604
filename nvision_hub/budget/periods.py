"""Hours, days and months in a time zone, as spans of seconds since the epoch.

Spans of the same period follow each other without gaps, even when clocks change for summer time. The span of the day
of a change lasts 23 or 25 hours. An hour that the clock repeats has two spans.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

_HOUR_S: Final = 3600
# All offsets from UTC that are in use today, and all changes of these offsets, are multiples of 15 minutes. Each period
# therefore begins at a multiple of this step.
STEP_S: Final = 900
_LOCALTIME: Final = Path("/etc/localtime")


class Period(StrEnum):
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Span(NamedTuple):
    """The seconds since the epoch from `begin` (inclusive) to `end` (exclusive)."""

    begin: float
    end: float

    def includes(self, at: float) -> bool:
        return self.begin <= at < self.end


def span_at(period: Period, at: float, zone: tzinfo) -> Span:
    """Return the span of `period` that includes `at`."""
    if period is Period.HOUR:
        return _hour(at, zone)
    local = datetime.fromtimestamp(at, zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if period is Period.MONTH:
        first = midnight.replace(day=1)
        starts = [first - timedelta(days=1), first, first + timedelta(days=31), first + timedelta(days=62)]
        begins = [start.replace(day=1) for start in starts]
    else:
        begins = [midnight + timedelta(days=days) for days in (-1, 0, 1, 2)]
    instants = [instant(begin, zone) for begin in begins]
    index = bisect_right(instants, at)
    return Span(instants[index - 1], instants[index])


def instant(local: datetime, zone: tzinfo, *, fold: int = 0) -> float:
    """Return a local time as seconds since the epoch.

    If the clock repeats the local time, `fold` 0 means its first occurrence, and `fold` 1 the second. If the clock
    skips the local time, `fold` 0 applies the offset before the change, and `fold` 1 the offset after it.
    """
    return local.replace(tzinfo=zone, fold=fold).timestamp()


def offset_s(at: float, zone: tzinfo) -> int:
    """Return the offset from UTC in seconds at `at`."""
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _hour(at: float, zone: tzinfo) -> Span:
    """Return the clock hour that includes `at`.

    A clock change by half an hour, as on Lord Howe Island, starts a new hour.
    """
    begin = at - at % STEP_S
    while not _is_hour(begin, zone):
        begin -= STEP_S
    end = at - at % STEP_S + STEP_S
    while not _is_hour(end, zone):
        end += STEP_S
    return Span(begin, end)


def _is_hour(at: float, zone: tzinfo) -> bool:
    """Return whether an hour begins at `at`, a multiple of `STEP_S`."""
    offset = offset_s(at, zone)
    return (at + offset) % _HOUR_S == 0 or (offset - offset_s(at - 1, zone)) % _HOUR_S != 0


def machine_time_zone(environ: Mapping[str, str] = os.environ, localtime: Path = _LOCALTIME) -> str:
    """Return the name of the machine's time zone, from the variable TZ or from /etc/localtime; UTC if unknown."""
    names = [environ.get("TZ", "").removeprefix(":")]
    try:
        _, found, name = str(localtime.resolve(strict=True)).partition("/zoneinfo/")
    except OSError:
        found = name = ""
    names.append(name if found else "")
    return next((name for name in names if is_time_zone(name)), "UTC")


def is_time_zone(name: str) -> bool:
    """Return whether the machine's time zone database has this name, such as Asia/Bangkok."""
    try:
        time_zone(name)
    except (KeyError, OSError, ValueError):  # the name is unknown, names a folder of the database, or is invalid
        return False
    return True


def time_zone(name: str) -> tzinfo:
    """Return the time zone. UTC needs no time zone database on the machine. Raises the same errors as `ZoneInfo`."""
    return UTC if name == "UTC" else ZoneInfo(name)
