"""Usage of images on disk: one row per camera and 15 minutes (UTC), in an SQLite file.

A grant must be on disk before it is made, but a commit takes too long for each grant. The store therefore also holds a
reserve for each camera: the number of images that may have been granted since the last commit. After a crash, the
reserve counts as used, in the column `written_off`.

`UsageStore.commit` may run in another thread. It may block for as long as the disk does.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from nvision_hub.budget.period_budget import Instant

if TYPE_CHECKING:
    from collections.abc import Mapping

SLOT_S: Final = 900
KEPT_S: Final = 400 * 86400
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = f"""
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE usage (
  slot INTEGER NOT NULL,
  camera TEXT NOT NULL,
  images INTEGER NOT NULL,
  written_off INTEGER NOT NULL,
  PRIMARY KEY (slot, camera)
) WITHOUT ROWID;
CREATE TABLE reserve (camera TEXT PRIMARY KEY, images INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE clock (boot TEXT NOT NULL, wall REAL NOT NULL, mono REAL NOT NULL);
PRAGMA user_version = {_SCHEMA_VERSION};
COMMIT;
"""
_ADD: Final = """
INSERT INTO usage VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET images = images + excluded.images, written_off = written_off + excluded.written_off
"""


class UsageKey(NamedTuple):
    slot: int  # seconds since the epoch, a multiple of `SLOT_S`
    camera: str


@dataclass(slots=True)
class UsedImages:
    """Images of one camera in one slot."""

    images: int = 0  # granted, and not written off
    written_off: int = 0  # granted to a process that ended without a report; it may have sent them


class Recovery(NamedTuple):
    """State after the previous ledger.

    `instant` is the current moment by the clock of the last commit, so that a jump of the clock since then is noticed.
    After a restart of the machine, a clock that is not behind the last commit counts as correct.
    """

    instant: Instant
    written_off: dict[str, int]  # images by camera
    idle_s: float  # seconds since the last possible grant; infinite before the first ledger of this run of the machine


class UsageStore:
    """Open store. Raises `sqlite3.Error` if the file cannot be used."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The ledger commits in another thread. Meanwhile, it reads the committed rows over a connection of its own.
        self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")  # a power failure must not renew a budget
        if self._database.execute("PRAGMA user_version").fetchone()[0] == 0:
            self._database.executescript(_SCHEMA)
        self._reader = sqlite3.connect(file, isolation_level=None)

    def close(self) -> None:
        self._reader.close()
        self._database.close()

    def recover(self, now: Instant) -> Recovery:
        """Count the reserves of a ledger that was killed as used, by the clock of its last commit."""
        reserves = dict(self._database.execute("SELECT camera, images FROM reserve WHERE images > 0").fetchall())
        row = self._database.execute("SELECT boot, wall, mono FROM clock").fetchone()
        instant, idle_s = now, float("inf")
        if row is not None:
            boot, wall, mono = row
            if boot == _boot_id():
                instant, idle_s = Instant(wall + now.mono - mono, now.mono), now.mono - mono
            else:
                instant = Instant(max(now.wall, wall), now.mono)
        lost = {UsageKey(slot_of(instant.wall), camera): UsedImages(0, images) for camera, images in reserves.items()}
        self.commit(lost, {}, instant)
        return Recovery(instant, reserves, 0.0 if reserves else idle_s)

    def count(self, camera: str | None, begin: float, end: float) -> int:
        """Return the images of a camera, or of all cameras, from `begin` up to `end` (seconds since the epoch)."""
        query = "SELECT coalesce(sum(images + written_off), 0) FROM usage WHERE slot >= ? AND slot < ?"
        if camera is None:
            return int(self._reader.execute(query, (begin, end)).fetchone()[0])
        return int(self._reader.execute(f"{query} AND camera = ?", (begin, end, camera)).fetchone()[0])

    def commit(self, used: Mapping[UsageKey, UsedImages], reserves: Mapping[str, int], now: Instant) -> None:
        """Add `used` to the rows, and replace all reserves, in one transaction. Raises `sqlite3.Error`."""
        rows = [(*key, each.images, each.written_off) for key, each in used.items()]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(_ADD, rows)
            self._database.execute("DELETE FROM usage WHERE slot < ?", (slot_of(now.wall) - KEPT_S,))
            self._database.execute("DELETE FROM reserve")
            self._database.executemany("INSERT INTO reserve VALUES (?, ?)", reserves.items())
            self._database.execute("DELETE FROM clock")
            self._database.execute("INSERT INTO clock VALUES (?, ?, ?)", (_boot_id(), *now))
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise


def slot_of(wall: float) -> int:
    return int(wall // SLOT_S) * SLOT_S


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
