"""Store of the usage of images: what a new ledger finds after the previous one, by real SQLite files."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nvision_hub.budget.period_budget import Instant
from workers.ledger.usage_store import SLOT_S, Recovery, UsageKey, UsageStore, UsedImages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = 1_796_126_400.0  # 2026-12-01 12:00 UTC
BEGAN = Instant(NOON, 1000.0)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[UsageStore]:
    store = UsageStore(folder / "usage.sqlite3")
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
        assert store.recover(BEGAN) == Recovery(BEGAN, {}, float("inf"))


def test_a_ledger_that_ended_in_order_leaves_its_last_instant(tmp_path: Path) -> None:
    after(tmp_path, {})
    with opened(tmp_path) as store:
        assert store.recover(Instant(NOON + 60, 1060.0)) == Recovery(Instant(NOON + 60, 1060.0), {}, 60.0)
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
