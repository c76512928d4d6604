"""Usage of images on disk: one row per camera and 15 minutes (UTC), in an SQLite file.

The table `day` contains the same images per camera and day in the site's time zone, which makes reports fast.

A grant must be on disk before the ledger makes it, but a commit per grant would take too long. The store therefore also
keeps a reserve for each camera: the number of images that the ledger may grant before the next commit. After a crash,
the reserve counts as used, in the column `written_off`.

`UsageStore.commit` may run in another thread. It blocks as long as the disk does.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from nvision_hub.budget.period_budget import JUMP_S, Instant, RenewalHold
from nvision_hub.budget.periods import Period, Span, span_at, time_zone

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nvision_hub.budget.allocator import Holds

SLOT_S: Final = 900
KEPT_S: Final = 400 * 86400
PRUNE_INTERVAL_S: Final = 3 * 3600
# Maximum time span of rows to delete at once, so that a wrong clock deletes little until it is corrected.
MAX_PRUNED_S: Final = 86400
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
_DAY_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS day (
  date TEXT NOT NULL,  -- such as 2026-12-01
  camera TEXT NOT NULL,
  images INTEGER NOT NULL,
  written_off INTEGER NOT NULL,
  PRIMARY KEY (date, camera)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS day_zone (name TEXT NOT NULL);
"""
_HOLD_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS hold (  -- of budgets that have noticed a jump of the clock
  camera TEXT,  -- null for the site
  period TEXT NOT NULL,
  begin_at REAL NOT NULL,
  end_at REAL NOT NULL,
  used INTEGER NOT NULL,
  until REAL NOT NULL  -- by the clock in the table `clock`
);
"""
_ADDED: Final = """
ON CONFLICT DO UPDATE SET images = images + excluded.images, written_off = written_off + excluded.written_off
"""
_ADD: Final = f"INSERT INTO usage VALUES (?, ?, ?, ?) {_ADDED}"  # noqa: S608 - inserts constants only
_ADD_TO_DAY: Final = f"INSERT INTO day VALUES (?, ?, ?, ?) {_ADDED}"  # noqa: S608 - inserts constants only
_SUM_DAY: Final = """
INSERT INTO day SELECT ?, camera, sum(images), sum(written_off) FROM usage WHERE slot >= ? AND slot < ? GROUP BY camera
"""


class UsageKey(NamedTuple):
    slot: int  # seconds since the epoch, a multiple of `SLOT_S`
    camera: str


@dataclass(slots=True)
class UsedImages:
    """Images of one camera in one slot."""

    images: int = 0  # images granted and not written off
    written_off: int = 0  # images granted to a process that ended without a report and may have sent them


class Recovery(NamedTuple):
    """State that the previous ledger left behind.

    `instant` is the current moment by the clock of the last commit, which reveals a jump of the clock since then. After
    a restart of the machine, the clock counts as correct unless it is behind the last commit.
    """

    instant: Instant
    written_off: dict[str, int]  # images by camera
    idle_s: float  # seconds since the last possible grant; infinite if no ledger has run since the machine started
    holds: Holds


class UsageStore:
    """Store of the image usage. Raises `sqlite3.Error` if the file cannot be used.

    `zone_name` is the time zone of the table `day`. If the time zone has changed, the store recomputes the table, which
    takes several seconds for 200 cameras.
    """

    def __init__(self, file: Path, zone_name: str) -> None:
        self._zone = time_zone(zone_name)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # While the ledger commits in another thread, it reads committed rows through a separate connection.
        self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")  # a power failure must not renew a budget
        if self._database.execute("PRAGMA user_version").fetchone()[0] == 0:
            self._database.executescript(_SCHEMA)
        self._database.executescript(_DAY_SCHEMA + _HOLD_SCHEMA)
        if self._database.execute("SELECT name FROM day_zone").fetchall() != [(zone_name,)]:
            self._sum_days(zone_name)
        self._reader = sqlite3.connect(file, isolation_level=None)
        self._last: Instant | None = None  # time of the last commit of this process
        self._prune_mono = float("inf")  # monotonic time after which old rows are deleted

    def _sum_days(self, zone_name: str) -> None:
        with self._transaction():
            self._database.execute("DELETE FROM day")
            at, last = self._database.execute(
                "SELECT coalesce(min(slot), 0), coalesce(max(slot), -1) FROM usage"
            ).fetchone()
            while at <= last:
                begin, end = span_at(Period.DAY, at, self._zone)
                self._database.execute(_SUM_DAY, (self._date(begin), begin, end))
                at = end
            self._database.execute("DELETE FROM day_zone")
            self._database.execute("INSERT INTO day_zone VALUES (?)", (zone_name,))

    def _date(self, at: float) -> str:
        return datetime.fromtimestamp(at, self._zone).date().isoformat()

    def _is_midnight(self, at: float) -> bool:
        return datetime.fromtimestamp(at, self._zone).time() == time.min

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._reader.close()
        self._database.close()

    def recover(self, now: Instant) -> Recovery:
        """Count the reserves of a killed ledger as used, at a time by the clock of its last commit."""
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
        holds = self._read_holds(instant, reserves)
        self.commit(lost, {}, instant, holds)
        return Recovery(instant, reserves, 0.0 if reserves else idle_s, holds)

    def _read_holds(self, now: Instant, written_off: Mapping[str, int]) -> Holds:
        holds = {}
        for camera, period, begin, end, used, until in self._database.execute("SELECT * FROM hold").fetchall():
            more = sum(written_off.values()) if camera is None else written_off.get(camera, 0)
            holds[camera, Period(period)] = RenewalHold(Span(begin, end), used + more, now.mono + until - now.wall)
        return holds

    def count(self, camera: str | None, begin: float, end: float) -> int:
        """Return the images of a camera (None: all cameras) from `begin` up to `end` (seconds since the epoch)."""
        bounds: tuple[object, object] = (begin, end)
        table, column = "usage", "slot"
        # Use the table of days, because a month of 200 cameras has 600,000 slots.
        if self._is_midnight(begin) and self._is_midnight(end):
            bounds = (self._date(begin), self._date(end))
            table, column = "day", "date"
        query = f"SELECT coalesce(sum(images + written_off), 0) FROM {table} "  # noqa: S608 - inserts constants only
        query += f"WHERE {column} >= ? AND {column} < ?"
        if camera is None:
            return int(self._reader.execute(query, bounds).fetchone()[0])
        return int(self._reader.execute(f"{query} AND camera = ?", (*bounds, camera)).fetchone()[0])

    def commit(
        self,
        used: Mapping[UsageKey, UsedImages],
        reserves: Mapping[str, int],
        now: Instant,
        holds: Holds | None = None,
    ) -> None:
        """Add `used` to the rows, and replace all reserves and holds, in a single transaction.

        Raises `sqlite3.Error`.
        """
        rows = [(*key, each.images, each.written_off) for key, each in used.items()]
        should_prune = self._should_prune(now)
        with self._transaction():
            self._database.executemany(_ADD, rows)
            self._database.executemany(_ADD_TO_DAY, [(self._date(slot), *row) for slot, *row in rows])
            if should_prune:
                self._prune(slot_of(now.wall) - KEPT_S)
            self._database.execute("DELETE FROM reserve")
            self._database.executemany("INSERT INTO reserve VALUES (?, ?)", reserves.items())
            self._database.execute("DELETE FROM hold")
            for (camera, period), (span, images, until_mono) in (holds or {}).items():
                row = (camera, period, *span, images, now.wall + until_mono - now.mono)
                self._database.execute("INSERT INTO hold VALUES (?, ?, ?, ?, ?, ?)", row)
            self._database.execute("DELETE FROM clock")
            self._database.execute("INSERT INTO clock VALUES (?, ?, ?)", (_boot_id(), *now))

    def _should_prune(self, now: Instant) -> bool:
        """Return whether to delete old rows now. This is rare, and never soon after a start or a jump of the clock."""
        last, self._last = self._last, now
        if last is None or abs(now.wall - last.wall - (now.mono - last.mono)) > JUMP_S:
            self._prune_mono = now.mono + PRUNE_INTERVAL_S
        if now.mono < self._prune_mono:
            return False
        self._prune_mono = now.mono + PRUNE_INTERVAL_S
        return True

    def _prune(self, oldest: int) -> None:
        """Delete rows before the slot `oldest`, but no more than a time span of `MAX_PRUNED_S`."""
        (first,) = self._database.execute("SELECT min(slot) FROM usage").fetchone()
        if first is not None and first < oldest:
            oldest = min(oldest, first + MAX_PRUNED_S)
            self._database.execute("DELETE FROM usage WHERE slot < ?", (oldest,))
            self._database.execute("DELETE FROM day WHERE date < ?", (self._date(oldest),))


def slot_of(wall: float) -> int:
    return int(wall // SLOT_S) * SLOT_S


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
