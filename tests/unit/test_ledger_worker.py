"""Ledger worker: errors and pauses of the disk, by real SQLite files."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from typing import TYPE_CHECKING

import pytest

from nvision_hub.budget.allocator import Allocator, SiteBudget
from nvision_hub.budget.ledger_protocol import WantImages, decode_line, encode_line
from nvision_hub.budget.period_budget import Instant
from nvision_hub.budget.periods import Period
from workers.ledger import worker
from workers.ledger.usage_store import UsageKey, UsageStore, UsedImages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WANTED = WantImages(camera="dock", service="od", fps=5.0, priority="normal")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[worker._Ledger]:
    site = SiteBudget(per_period={Period.DAY: 1000}, is_even=False)
    made = worker._Ledger(worker.LedgerSettings(site=site, directory=tmp_path))
    made._store = UsageStore(tmp_path / worker.FILE_NAME, "UTC")
    made._allocator = Allocator(site, made._count, worker._now())
    yield made
    made._store.close()


@pytest.fixture
def disk(tmp_path: Path, ledger: worker._Ledger) -> Iterator[sqlite3.Connection]:
    """Connection that disturbs the ledger's file."""
    assert ledger._store is not None
    with contextlib.closing(sqlite3.connect(tmp_path / worker.FILE_NAME, isolation_level=None)) as connection:
        yield connection


class FakeWriter:
    def __init__(self) -> None:
        self.is_closed = False

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


def connected(ledger: worker._Ledger) -> worker._LedgerClient:
    client = worker._LedgerClient(FakeWriter())  # type: ignore[arg-type]
    ledger._receive(client, WANTED)
    return client


async def test_commits_pause_after_a_commit_failed(
    ledger: worker._Ledger, disk: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.execute("CREATE TRIGGER full BEFORE INSERT ON reserve BEGIN SELECT raise(ABORT, 'disk full'); END")
    connected(ledger)
    ledger._allocator.request("dock", worker._now())
    pauses, sleep = list[float](), asyncio.sleep

    async def sleep_shortly(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleep_shortly)
    commits = asyncio.create_task(ledger._commit_regularly())
    while len(pauses) < 3:
        await sleep(0.01)
    assert set(pauses) == {worker.COMMIT_INTERVAL_S}
    assert "disk full" in (ledger._error or "")
    disk.execute("DROP TRIGGER full")
    while ledger._error is not None or not ledger._reserves.get("dock"):
        await sleep(0.01)
    commits.cancel()


async def serve(ledger: worker._Ledger, line: bytes) -> FakeWriter:
    """Let a camera send one line, and return its closed connection."""
    reader, writer = asyncio.StreamReader(), FakeWriter()
    reader.feed_data(line)
    reader.feed_eof()
    await ledger._serve(reader, writer)  # type: ignore[arg-type]
    return writer


async def test_a_disk_that_cannot_be_read_ends_no_grants_for_good(
    ledger: worker._Ledger, disk: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.execute("ALTER TABLE day RENAME TO gone")
    wanted = WantImages(camera="dock", service="od", fps=5.0, priority="normal", per_period={Period.DAY: 10})
    assert (await serve(ledger, encode_line(wanted))).is_closed
    assert "cannot be read" in (ledger._snapshot().error or "")
    tomorrow = Instant(*(at + 86_400 for at in worker._now()))
    ledger._allocator._budgets[Period.DAY]._now = Instant(*(at - 1 for at in tomorrow))
    monkeypatch.setattr(worker, "_now", lambda: tomorrow)
    ledger._grant()
    assert ledger._snapshot().error is not None
    assert ledger._timer is not None
    disk.execute("ALTER TABLE gone RENAME TO day")
    ledger._grant()
    assert ledger._snapshot().error is None
    ledger._timer.cancel()


@pytest.mark.parametrize("fps", ["Infinity", "NaN", "-1", "61"])
async def test_an_impossible_rate_closes_only_its_connection(ledger: worker._Ledger, fps: str) -> None:
    line = re.sub(rb'"fps":[^,]*', b'"fps":' + fps.encode(), encode_line(WANTED))
    with pytest.raises(ValueError, match="malformed WantImages"):
        decode_line(line)
    assert (await serve(ledger, line)).is_closed
    assert not ledger._wanted
    connected(ledger)
    assert ledger._wanted


async def test_a_stop_during_a_commit_stores_all_images(ledger: worker._Ledger, disk: sqlite3.Connection) -> None:
    ledger._use("dock", worker._now(), 3)
    disk.execute("BEGIN IMMEDIATE")
    ledger._must_commit.set()
    commits = asyncio.create_task(ledger._commit_regularly())
    while not ledger._saving:  # noqa: ASYNC110 - no event exists
        await asyncio.sleep(0)
    commits.cancel()
    await asyncio.wait({commits})
    ledger._use("dock", worker._now(), 4)
    settling = asyncio.create_task(ledger._settle())
    await asyncio.sleep(0)
    disk.execute("ROLLBACK")
    await settling
    assert ledger._error is None
    assert disk.execute("SELECT sum(images) FROM usage").fetchone() == (7,)
    assert not ledger._unsaved


async def test_a_commit_that_fails_for_any_reason_loses_no_image(
    ledger: worker._Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger._unsaved[UsageKey(0, "dock")] = UsedImages(3, 1)

    def fail(*_: object) -> None:
        raise RuntimeError("no thread")

    monkeypatch.setattr(ledger._store, "commit", fail)
    with pytest.raises(RuntimeError):
        await ledger._commit({})
    assert ledger._unsaved == {UsageKey(0, "dock"): UsedImages(3, 1)}
    assert not ledger._saving
