"""Store of the usage of images: what a new ledger finds after the previous one, by real SQLite files."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from itertools import product
from random import Random
from typing import TYPE_CHECKING

from nvision_hub.budget.period_budget import Instant, RenewalHold
from nvision_hub.budget.periods import Period, span_at, time_zone
from workers.ledger.usage_store import (
    KEPT_S,
    PRUNE_INTERVAL_S,
    SLOT_S,
    Recovery,
    UsageKey,
    UsageStore,
    UsedImages,
    slot_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = 1_796_126_400.0  # 2026-12-01 12:00 UTC
BEGAN = Instant(NOON, 1000.0)


@contextlib.contextmanager
def opened(folder: Path, zone: str = "UTC") -> Iterator[UsageStore]:
    store = UsageStore(folder / "usage.sqlite3", zone)
    try:
        yield store
    finally:
        store.close()


def after(folder: Path, reserves: dict[str, int]) -> None:
    """Run a ledger that commits ten images at noon."""
    with opened(folder) as store:
        store.commit({UsageKey(int(NOON), "dock"): UsedImages(10)}, reserves, BEGAN)


def test_the_first_ledger_of_a_machine_writes_nothing_off(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.recover(BEGAN) == Recovery(BEGAN, {}, float("inf"), {})


def test_a_ledger_that_ended_in_order_leaves_its_last_instant(tmp_path: Path) -> None:
    after(tmp_path, {})
    with opened(tmp_path) as store:
        assert store.recover(Instant(NOON + 60, 1060.0)) == Recovery(Instant(NOON + 60, 1060.0), {}, 60.0, {})
        assert store.count(None, NOON, NOON + SLOT_S) == 10


def test_the_reserves_of_a_killed_ledger_count_as_used_once(tmp_path: Path) -> None:
    after(tmp_path, {"dock": 4})
    for written_off in ({"dock": 4}, {}):
        with opened(tmp_path) as store:
            assert store.recover(Instant(NOON + 60, 1060.0)).written_off == written_off
            assert store.count("dock", NOON, NOON + SLOT_S) == 14


def test_a_killed_ledger_may_have_granted_images_until_now(tmp_path: Path) -> None:
    after(tmp_path, {"dock": 4})
    with opened(tmp_path) as store:
        assert store.recover(Instant(NOON + 60, 1060.0)).idle_s == 0


def test_a_clock_that_jumps_while_no_ledger_runs_is_noticed(tmp_path: Path) -> None:
    after(tmp_path, {"dock": 4})
    with opened(tmp_path) as store:
        assert store.recover(Instant(NOON + 86_400, 1060.0)).instant == Instant(NOON + 60, 1060.0)
        assert store.count("dock", NOON, NOON + SLOT_S) == 14  # in the day in which they were granted


def test_a_clock_far_in_the_future_erases_at_most_the_oldest_day(tmp_path: Path) -> None:
    after(tmp_path, {})
    day, far = UsageKey(int(NOON) + 5 * 86_400, "dock"), 2.0 * KEPT_S
    with opened(tmp_path) as store:
        store.recover(Instant(NOON + 60, 1060.0))
        store.commit({day: UsedImages(7)}, {}, Instant(NOON + 61, 1061.0))
        for seconds in range(62, PRUNE_INTERVAL_S, 600):
            store.commit({}, {}, Instant(NOON + far + seconds, 1000.0 + seconds))
        assert store.count("dock", NOON, NOON + 6 * 86_400) == 17
        store.commit({}, {}, Instant(NOON + far + PRUNE_INTERVAL_S + 62, 1062.0 + PRUNE_INTERVAL_S))
        assert store.count("dock", NOON, NOON + 6 * 86_400) == 7


def test_old_rows_are_erased_regularly_and_not_at_the_start(tmp_path: Path) -> None:
    after(tmp_path, {})
    later = Instant(NOON + KEPT_S + 2 * 86_400, 1000.0 + KEPT_S + 2 * 86_400)
    with opened(tmp_path) as store:
        store.recover(later)
        assert store.count("dock", NOON, NOON + SLOT_S) == 10
        store.commit({}, {}, Instant(*(at + PRUNE_INTERVAL_S for at in later)))
        assert store.count("dock", NOON, NOON + SLOT_S) == 0
        assert store.count("dock", NOON - 43_200, NOON + 43_200) == 0  # from the table of days


def test_a_new_ledger_continues_the_holds_after_a_jump_of_the_clock(tmp_path: Path) -> None:
    span = span_at(Period.DAY, NOON, time_zone("UTC"))
    keys: list[tuple[str | None, Period]] = [(None, Period.DAY), ("dock", Period.MONTH)]
    with opened(tmp_path) as store:
        store.commit({}, {"dock": 4, "yard": 1}, BEGAN, {key: RenewalHold(span, 10, 5000.0) for key in keys})
    for _ in range(2):  # the new ledger may be killed, too
        with opened(tmp_path) as store:
            holds = store.recover(Instant(NOON + 60, 1060.0)).holds
        assert holds == {keys[0]: RenewalHold(span, 15, 5000.0), keys[1]: RenewalHold(span, 14, 5000.0)}


def test_days_and_months_add_up_in_every_time_zone(tmp_path: Path) -> None:
    """The file is reopened with another time zone, for which it sums the days up again, also around summer time."""
    rng = Random(1)  # noqa: S311 - determines counts, not secrets
    begin = slot_of(datetime(2026, 2, 20, tzinfo=UTC).timestamp())
    rows = {
        UsageKey(begin + n * SLOT_S, camera): UsedImages(rng.randint(0, 9), n % 2)
        for n in range(6000)
        for camera in "ab"
    }
    with opened(tmp_path) as store:
        store.commit(rows, {}, Instant(begin + 6000 * SLOT_S, 0.0))
    for zone in ("Europe/Berlin", "Asia/Kathmandu", "America/New_York"):
        with opened(tmp_path, zone) as store:
            new = {UsageKey(begin + 48 * SLOT_S, "a"): UsedImages(5)}
            store.commit(new, {}, Instant(begin + 6000 * SLOT_S, 0.0))
            rows[UsageKey(begin + 48 * SLOT_S, "a")].images += 5
            for period, hour in product(Period, range(0, 1500, 37)):
                span = span_at(period, begin + hour * 3600, time_zone(zone))
                for camera in ("a", None):
                    expected = sum(
                        each.images + each.written_off
                        for key, each in rows.items()
                        if camera in {None, key.camera} and span.includes(key.slot)
                    )
                    assert store.count(camera, *span) == expected, (zone, span)
