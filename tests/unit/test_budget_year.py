"""A simulated leap year with summer time, month ends, and changing budgets and schedules, in three time zones."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from nvision_hub.budget.allocator import Allocator, CameraBudget, SiteBudget
from nvision_hub.budget.period_budget import Instant
from nvision_hub.budget.periods import Period, span_at
from nvision_hub.budget.schedule import Window, window_at

pytestmark = pytest.mark.long

BEGIN = datetime(2028, 1, 1, tzinfo=UTC).timestamp()
END = datetime(2029, 1, 1, tzinfo=UTC).timestamp()
STEP_S = 900.0
FPS = 1 / STEP_S
# From each date on: images per day and month of the site, and the schedule of the yard.
CHANGES = (
    (BEGIN, 120, 3000, ()),
    (
        datetime(2028, 3, 26, 0, 45, tzinfo=UTC).timestamp(),
        90,
        3000,
        (Window(begin_min=1320, end_min=360, paused=True),),
    ),
    (datetime(2028, 6, 15, 10, 0, tzinfo=UTC).timestamp(), 40, 900, ()),
    (datetime(2028, 9, 1, tzinfo=UTC).timestamp(), 150, 4200, (Window(days=frozenset({5, 6}), fps=FPS / 3),)),
)


class YearOfSite:
    """Two cameras that send an image every step if they may, and a service that counts the images by their time."""

    def __init__(self, zone: str) -> None:
        self.zone = ZoneInfo(zone)
        self.sent: dict[str, list[float]] = {"door": [], "yard": []}
        self.dry: dict[tuple[Period, float], float] = {}  # by period and begin: seconds left when it ran dry
        self.limits: defaultdict[tuple[Period, float], set[int]] = defaultdict(set)

    def count(self, camera: str | None, begin: float, end: float) -> int:
        lists = self.sent.values() if camera is None else [self.sent[camera]]
        return sum(bisect_left(times, end) - bisect_left(times, begin) for times in lists)

    def run(self) -> None:
        for (begin, day, month, schedule), end in zip(CHANGES, [*(each[0] for each in CHANGES[1:]), END], strict=True):
            budget = SiteBudget(per_period={Period.DAY: day, Period.MONTH: month}, time_zone=self.zone.key)
            self._run_until(end, begin, budget, schedule)

    def _run_until(self, end: float, at: float, site: SiteBudget, schedule: tuple[Window, ...]) -> None:
        allocator = Allocator(site, self.count, Instant(at, at - BEGIN))
        door = CameraBudget(service="od", fps=FPS, per_period={Period.HOUR: 3})
        allocator.set_camera("door", door, Instant(at, at - BEGIN))
        while at < end:
            now = Instant(at, at - BEGIN)
            window = window_at(schedule, at, self.zone)
            fps = FPS if window is None or window.fps is None else window.fps
            allocator.set_camera("yard", CameraBudget(service="od", fps=fps), now)
            allocator.request("door", now)
            if (window is None or not window.paused) and (fps == FPS or at % (3 * STEP_S) == 0):
                allocator.request("yard", now)
            for camera in allocator.grant(now):
                self.sent[camera].append(at)
                allocator.on_sent(camera, now.mono)
            for owner, budget in allocator.budgets():
                if owner is None:
                    self.limits[budget.period, budget.span.begin].add(budget.limit)
                    if budget.used >= budget.limit:
                        self.dry.setdefault((budget.period, budget.span.begin), budget.span.end - at)
            at += STEP_S


def first_day(zone: str) -> date:
    return datetime.fromtimestamp(BEGIN, ZoneInfo(zone)).date()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_a_year_keeps_every_budget_and_never_runs_dry_early(zone: str) -> None:
    year = YearOfSite(zone)
    year.run()
    times = sorted([*year.sent["door"], *year.sent["yard"]])
    here = ZoneInfo(zone)
    days = Counter(datetime.fromtimestamp(at, here).date() for at in times)
    months = Counter(datetime.fromtimestamp(at, here).strftime("%Y-%m") for at in times)
    assert sum(days.values()) == sum(months.values()) == len(times)
    for (period, begin), limits in year.limits.items():
        local = datetime.fromtimestamp(begin, here)
        used = days[local.date()] if period is Period.DAY else months[local.strftime("%Y-%m")]
        assert used <= max(limits), (period, local)
        assert used == year.count(None, *span_at(period, begin, here))
        if len(limits) == 1:  # a budget that is reduced in the middle of its period may already be used up
            left_s, span = year.dry.get((period, begin), 0.0), span_at(period, begin, here)
            assert left_s <= (span.end - span.begin) / 10, (period, local)
    withheld = {day for day in (first_day(zone) + timedelta(days=n) for n in range(366)) if day not in days}
    assert all(day.month == 6 for day in withheld)  # half of June had used up the month before its budget was reduced
    hours = Counter(span_at(Period.HOUR, at, here).begin for at in year.sent["door"])
    assert max(hours.values()) <= 3
    first = months["2028-01"] if zone != "America/New_York" else months["2028-02"]
    assert 0.9 * 3000 <= first <= 3000  # in steps this long, pacing skips some images
