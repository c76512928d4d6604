"""Ledger worker: errors and pauses of the disk, by real SQLite files."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from nvision_hub.budget.allocator import Allocator, SiteBudget
from nvision_hub.budget.ledger_protocol import WantImages
from nvision_hub.budget.periods import Period
from workers.ledger import worker
from workers.ledger.usage_store import UsageStore

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
