"""Periods in time zones: hours, days and months without gaps, also when clocks change."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.budget.periods import Period, machine_time_zone, span_at

if TYPE_CHECKING:
    from pathlib import Path

ZONES = [
    "UTC",
    "Asia/Bangkok",
    "Asia/Kathmandu",  # UTC+05:45
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # changes by half an hour
    "America/Santiago",  # skips the hour after midnight
    "Africa/Cairo",  # likewise
    "America/Havana",  # repeats the hour after midnight
    "Pacific/Chatham",  # UTC+12:45 and 13:45
]
BEGIN = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
END = datetime(2032, 1, 1, tzinfo=UTC).timestamp()


def local(zone: str, *parts: int) -> float:
    return datetime(*parts, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[arg-type,misc]


@given(at=st.floats(BEGIN, END), zone=st.sampled_from(ZONES), period=st.sampled_from(Period))
def test_periods_follow_each_other_without_gaps(at: float, zone: str, period: Period) -> None:
    span = span_at(period, at, ZoneInfo(zone))
    assert span.includes(at)
    assert span.begin % 900 == span.end % 900 == 0
    assert span_at(period, span.begin, ZoneInfo(zone)) == span
    assert span_at(period, span.end - 1, ZoneInfo(zone)) == span
    assert span_at(period, span.end, ZoneInfo(zone)).begin == span.end


@given(at=st.floats(BEGIN, END), zone=st.sampled_from(ZONES))
def test_a_day_and_a_month_have_one_date(at: float, zone: str) -> None:
    here = ZoneInfo(zone)
    day, month = span_at(Period.DAY, at, here), span_at(Period.MONTH, at, here)
    first, last = (datetime.fromtimestamp(each, here) for each in (day.begin, day.end - 1))
    # `fromtimestamp` rounds to microseconds, so a time just before midnight would become midnight.
    assert first.date() == last.date() == datetime.fromtimestamp(math.floor(at), here).date()
    first, last = (datetime.fromtimestamp(each, here) for each in (month.begin, month.end - 1))
    assert (first.year, first.month, first.day) == (last.year, last.month, 1)
    assert (last + timedelta(days=1)).day == 1


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Asia/Bangkok", (2026, 3, 29), 24),
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("America/New_York", (2026, 3, 8), 23),
        ("Australia/Lord_Howe", (2026, 10, 4), 23.5),
        ("America/Santiago", (2026, 9, 6), 23),
        ("America/Havana", (2026, 11, 1), 25),
    ],
)
def test_a_day_on_which_clocks_change_is_shorter_or_longer(zone: str, day: tuple[int, int, int], hours: float) -> None:
    span = span_at(Period.DAY, local(zone, *day, 12), ZoneInfo(zone))
    assert span.end - span.begin == hours * 3600


def test_february_of_a_leap_year_has_29_days() -> None:
    span = span_at(Period.MONTH, local("Asia/Bangkok", 2028, 2, 29, 23, 59), ZoneInfo("Asia/Bangkok"))
    assert span == (local("Asia/Bangkok", 2028, 2, 1), local("Asia/Bangkok", 2028, 3, 1))


def test_the_hour_that_clocks_repeat_counts_as_two_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first = span_at(Period.HOUR, local("Europe/Berlin", 2026, 10, 25, 2, 30), berlin)
    second = span_at(Period.HOUR, first.end, berlin)
    assert first.end - first.begin == second.end - second.begin == 3600
    assert datetime.fromtimestamp(second.begin, berlin).hour == 2


def test_an_hour_begins_at_a_full_hour_of_the_local_clock() -> None:
    nepal = ZoneInfo("Asia/Kathmandu")
    span = span_at(Period.HOUR, local("Asia/Kathmandu", 2026, 5, 1, 7, 59), nepal)
    assert span == (local("Asia/Kathmandu", 2026, 5, 1, 7), local("Asia/Kathmandu", 2026, 5, 1, 8))


def test_the_time_zone_of_the_machine(tmp_path: Path) -> None:
    zone, link = tmp_path / "zoneinfo" / "Asia" / "Bangkok", tmp_path / "localtime"
    zone.parent.mkdir(parents=True)
    zone.touch()
    link.symlink_to(zone)
    assert machine_time_zone({}, link) == "Asia/Bangkok"
    assert machine_time_zone({"TZ": "Europe/Berlin"}, link) == "Europe/Berlin"
    assert machine_time_zone({"TZ": "nowhere"}, tmp_path / "missing") == "UTC"
