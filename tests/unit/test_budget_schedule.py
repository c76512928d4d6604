"""Schedules of cameras: which window is in effect, and until when."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.budget.schedule import DAY_MIN, Window, active_window, window_at

BERLIN = ZoneInfo("Europe/Berlin")
WORKDAYS = frozenset(range(5))
NIGHT = Window(days=WORKDAYS, begin_min=22 * 60, end_min=6 * 60, fps=5.0)
WEEKEND = Window(days=frozenset({5, 6}), fps=0.5)
NOON = Window(begin_min=12 * 60, end_min=13 * 60, paused=True)
SCHEDULE = (NIGHT, WEEKEND, NOON)


def at(*parts: int, fold: int = 0) -> float:
    return datetime(*parts, tzinfo=BERLIN, fold=fold).timestamp()  # type: ignore[arg-type,misc]


def test_outside_all_windows_nothing_is_in_effect_until_the_next_window() -> None:
    assert active_window(SCHEDULE, at(2026, 12, 1, 9), BERLIN) == (None, at(2026, 12, 1, 12))


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    assert active_window(SCHEDULE, at(2026, 12, 1, 23), BERLIN) == (NIGHT, at(2026, 12, 2, 6))
    assert active_window(SCHEDULE, at(2026, 12, 5, 5, 59), BERLIN) == (NIGHT, at(2026, 12, 5, 6))  # begun on Friday
    assert window_at(SCHEDULE, at(2026, 12, 7, 5, 59), BERLIN) is None  # Sunday has no night


def test_the_first_matching_window_wins() -> None:
    assert active_window(SCHEDULE, at(2026, 12, 5, 6), BERLIN) == (WEEKEND, at(2026, 12, 7))
    assert window_at((NOON, WEEKEND), at(2026, 12, 5, 12, 30), BERLIN) is NOON


def test_a_window_that_always_applies_has_no_end() -> None:
    assert active_window((Window(fps=1.0),), at(2026, 12, 1), BERLIN).until is None
    assert active_window((), at(2026, 12, 1), BERLIN) == (None, None)


def test_a_window_whose_beginning_clocks_skip_begins_at_the_change() -> None:
    window = Window(begin_min=150, end_min=240, fps=1.0)  # 02:30 to 04:00; clocks go from 02:00 to 03:00
    change = at(2026, 3, 29, 3)
    assert active_window((window,), change - 1, BERLIN) == (None, change)
    assert active_window((window,), change, BERLIN) == (window, at(2026, 3, 29, 4))


def test_a_window_in_the_hour_that_clocks_repeat_applies_twice() -> None:
    window = Window(begin_min=150, end_min=240, fps=1.0)  # clocks go from 03:00 back to 02:00
    change = at(2026, 10, 25, 2, fold=1)
    assert active_window((window,), at(2026, 10, 25, 2, 40), BERLIN) == (window, change)
    assert active_window((window,), change, BERLIN) == (None, at(2026, 10, 25, 2, 30, fold=1))


windows = st.builds(
    Window,
    days=st.frozensets(st.integers(0, 6), min_size=1),
    begin_min=st.integers(0, DAY_MIN - 1),
    end_min=st.integers(1, DAY_MIN),
    fps=st.sampled_from([0.5, 1.0, 5.0]),
).filter(lambda window: window.begin_min != window.end_min)


@given(
    schedule=st.lists(windows, max_size=4).map(tuple),
    now=st.integers(
        int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2028, 1, 1, tzinfo=UTC).timestamp())
    ),
    zone=st.sampled_from(["Asia/Bangkok", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe"]).map(ZoneInfo),
    data=st.data(),
)
def test_the_active_window_stays_until_its_end_and_no_longer(
    schedule: tuple[Window, ...], now: int, zone: ZoneInfo, data: st.DataObject
) -> None:
    active, until = active_window(schedule, now, zone)
    assert active is window_at(schedule, now, zone)
    between = data.draw(st.integers(now, int(until) - 1 if until is not None else now + 30 * 86400))
    assert window_at(schedule, between, zone) is active
    if until is not None:
        assert window_at(schedule, until, zone) is not active
