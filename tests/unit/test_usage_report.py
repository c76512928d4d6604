"""Forecast and CSV of the usage of images, and the gateway's report from real SQLite files of the ledger."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import nvision_hub.cli.commands.usage as usage_module
from nvision_hub.budget.period_budget import Instant
from nvision_hub.budget.usage_report import MIN_RECENT_S, RECENT_S, Forecast, forecast, usage_csv
from nvision_hub.cli.commands.usage import forecast_line
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.messages import ProcessChanged, ProcessInfo, StatusReported
from nvision_hub.runtime.status import Status
from tests.support.fake_api import FakeApi
from workers.gateway.api.usage_routes import UsageReport, month_limit, usage_report
from workers.gateway.settings import UsageSettings
from workers.gateway.state.fleet import FleetState
from workers.ledger.usage_store import SLOT_S, UsageKey, UsageStore, UsedImages, slot_of

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400
NOON = datetime(2026, 12, 21, 12, tzinfo=UTC).timestamp()  # 10.5 days before the end of the month


def test_the_rest_of_a_period_continues_like_the_recent_time() -> None:
    found = forecast(used=1000, left_s=10 * DAY, recent=700, recent_s=7 * DAY, limit=None)
    assert found == Forecast(images=2000, per_second=100 / DAY, runs_out_s=None)


def test_a_forecast_needs_a_quarter_of_an_hour() -> None:
    assert forecast(used=9, left_s=DAY, recent=9, recent_s=MIN_RECENT_S - 1, limit=None) is None
    assert forecast(used=9, left_s=DAY, recent=9, recent_s=MIN_RECENT_S, limit=None) is not None


def test_a_limit_that_is_enough_changes_nothing() -> None:
    found = forecast(used=1000, left_s=10 * DAY, recent=700, recent_s=7 * DAY, limit=2000)
    assert found == Forecast(images=2000, per_second=100 / DAY, runs_out_s=None)


def test_a_limit_that_is_too_low_shows_when_it_is_reached() -> None:
    found = forecast(used=1000, left_s=10 * DAY, recent=700, recent_s=7 * DAY, limit=1500)
    assert found is not None
    assert found.images == 1500
    assert found.runs_out_s == pytest.approx(5 * DAY)


@pytest.mark.parametrize("used", [1000, 1001])
@pytest.mark.parametrize("recent", [0, 700])
def test_a_limit_that_is_used_up_is_reached(recent: int, used: int) -> None:
    found = forecast(used=used, left_s=10 * DAY, recent=recent, recent_s=7 * DAY, limit=1000)
    assert found == Forecast(images=used, per_second=recent / (7 * DAY), is_limit_reached=True, runs_out_s=None)


@given(
    used=st.integers(0, 10**9),
    left_s=st.floats(0, 31 * DAY),
    recent=st.integers(0, 10**9),
    recent_s=st.floats(MIN_RECENT_S, RECENT_S),
    limit=st.none() | st.integers(1, 10**9),
)
def test_a_forecast_respects_its_bounds(
    used: int, left_s: float, recent: int, recent_s: float, limit: int | None
) -> None:
    found = forecast(used=used, left_s=left_s, recent=recent, recent_s=recent_s, limit=limit)
    assert found is not None
    assert found.images >= used
    assert limit is None or found.images <= max(limit, used)
    assert found.is_limit_reached == (limit is not None and used >= limit)
    assert found.runs_out_s is None or 0 < found.runs_out_s <= left_s * 1.000001


def test_csv_has_a_row_for_each_row_of_a_report() -> None:
    rows: list[dict[str, Any]] = [
        {"key": "2026-12-01", "images": 10, "written_off": 1, "cost": 0.004},
        {"key": 'a,"b"', "images": 0, "written_off": 0, "cost": None},
    ]
    text = usage_csv("day", rows)
    assert text.startswith("day,images,written_off,cost\r\n2026-12-01,10,1,0.004\r\n")
    assert list(csv.reader(text.splitlines()))[2] == ['a,"b"', "0", "0", ""]


def report(
    folder: Path, images: dict[float, int], *, now: float = NOON, limit: int | None = None, zone: str = "UTC"
) -> UsageReport:
    """Store images by time, and return the report of the current month."""
    file = folder / "usage.sqlite3"
    store = UsageStore(file, zone)
    used = {UsageKey(slot_of(at), "dock"): UsedImages(count) for at, count in images.items()}
    store.commit(used, {}, Instant(now, 0.0))
    store.close()
    settings = UsageSettings(file=file, price_per_image=0.5, currency="EUR")
    return usage_report(settings, "day", None, None, now=now, limit=limit)


def test_a_report_forecasts_the_month_from_the_last_seven_days(tmp_path: Path) -> None:
    days = {NOON - days * DAY - SLOT_S: 100 for days in range(7)}
    busier_before = {NOON - days * DAY: 1000 for days in (8, 9, 20, 25)}
    found = report(tmp_path, days | busier_before, limit=4000)
    assert found["total"]["images"] == 3700  # without the day in November
    assert found["forecast"] == {
        "month": "2026-12",
        "images": 4000,
        "cost": 2000.0,
        "per_day": 100.0,
        "limit": 4000,
        "limit_reached": False,
        "runs_out_at": "2026-12-24T12:00:00.000Z",
    }


def test_a_new_hub_forecasts_from_the_first_whole_quarter_of_an_hour(tmp_path: Path) -> None:
    """Ten images a minute since two minutes before noon are ten images a minute, not fewer."""
    images = {NOON - 120: 20, NOON: 150, NOON + SLOT_S: 150}
    found = report(tmp_path, images, now=NOON + 1800)["forecast"]
    assert found is not None
    assert (found["per_day"], found["limit"], found["runs_out_at"]) == (14_400.0, None, None)
    assert found["images"] == 320 + round(14_400 * (10.5 - 1800 / DAY))


def test_the_seven_days_begin_with_a_whole_quarter_of_an_hour(tmp_path: Path) -> None:
    steady = {NOON - SLOT_S * number: 10 for number in range(1, 8 * DAY // SLOT_S)}
    found = report(tmp_path, steady, now=NOON + 1)["forecast"]  # seven days ago, a quarter of an hour had begun
    assert found is not None
    assert found["per_day"] == 960


def test_a_forecast_shows_that_the_limit_is_reached(tmp_path: Path) -> None:
    found = report(tmp_path, {NOON - DAY: 100}, limit=100)["forecast"]
    assert found is not None
    assert (found["images"], found["limit_reached"], found["runs_out_at"]) == (100, True, None)


@pytest.mark.parametrize(("after_s", "is_known"), [(60, False), (2 * SLOT_S - 1, False), (2 * SLOT_S, True)])
def test_a_forecast_needs_a_whole_quarter_of_an_hour(tmp_path: Path, after_s: int, *, is_known: bool) -> None:
    assert report(tmp_path, {})["forecast"] is None
    assert (report(tmp_path, {NOON: 5}, now=NOON + after_s)["forecast"] is not None) == is_known


def test_the_month_of_a_forecast_is_that_of_the_time_zone(tmp_path: Path) -> None:
    late = datetime(2026, 11, 30, 20, tzinfo=UTC).timestamp()
    images = {late - DAY - SLOT_S: 1, late - DAY: 80, late - SLOT_S: 20}
    found = report(tmp_path, images, now=late, zone="Asia/Bangkok")["forecast"]
    assert found is not None
    assert found["month"] == "2026-12"
    assert found["images"] == 20 + round(100 * (31 - 3 / 24))


def test_the_limit_of_the_month_comes_from_the_ledger() -> None:
    fleet, meter = FleetState(), Meter()
    assert month_limit(fleet) is None
    fleet.on_message(ProcessChanged(info=ProcessInfo(name="ledger", phase="running", pid=7)), wall=0.0)
    for camera, window, limit in (("", "day", 5), ("dock", "month", 6)):
        meter.set_gauge(catalogue.BUDGET_LIMIT_IMAGES, limit, camera=camera, window=window)
    fleet.on_message(
        StatusReported(name="ledger", status=Status(pid=7, state="running", metrics=meter.snapshot())), wall=0.0
    )
    assert month_limit(fleet) is None
    meter.set_gauge(catalogue.BUDGET_LIMIT_IMAGES, 9000, camera="", window="month")
    fleet.on_message(
        StatusReported(name="ledger", status=Status(pid=7, state="running", metrics=meter.snapshot())), wall=0.0
    )
    assert month_limit(fleet) == 9000


def test_a_forecast_is_one_line() -> None:
    facts: dict[str, Any] = {
        "month": "2026-12",
        "images": 412_000,
        "cost": 164.8,
        "per_day": 13_290.3,
        "limit": None,
        "limit_reached": False,
        "runs_out_at": None,
    }
    assert forecast_line(facts, "USD") == "2026-12 will have about 412,000 images, 164.80 USD (13,290 a day)"
    limited = facts | {"cost": None, "limit": 412_000, "runs_out_at": "2026-12-24T12:00:00.000Z"}
    wanted = r"2026-12 will have about 412,000 of 412,000 images \(13,290 a day\); they run out on 2026-12-2[345] "
    assert re.match(wanted, forecast_line(limited, None))
    reached = limited | {"limit_reached": True, "runs_out_at": None}
    line = "2026-12 will have about 412,000 of 412,000 images (13,290 a day); the limit is reached"
    assert forecast_line(reached, None) == line


def test_usage_of_a_hub_of_an_older_version_has_no_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    total = {"key": "", "images": 0, "written_off": 0, "cost": None}
    older: dict[str, Any] = {"by": "day", "rows": [], "total": total, "price_per_image": None, "currency": None}
    older |= {"begin": "2026-12-01", "end": "2026-12-21", "time_zone": "UTC"}
    monkeypatch.setattr(usage_module, "ApiClient", lambda _chosen: FakeApi({"/usage": older}))
    done = CliRunner().invoke(usage_module.usage, [], catch_exceptions=False)
    assert done.exit_code == 0
    assert "total" in done.output
