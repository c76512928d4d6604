"""Results on disk while Redis is away: one SQLite file for each process, bounded by bytes and by age.

The file is there only while something is in it. A process that is killed leaves it to the next of its name. No commit
waits for the disk to sync: what has been put outlives the process at once, and the machine some moments later.

To be called from any thread but an event loop's, since each call may take as long as the disk does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from nvision_hub.broker.outgoing import Outgoing
from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

log = logging.getLogger("nvision_hub.broker")

Outcome = TypeVar("Outcome")

_VERSION: Final = 1
_ROW_BYTES: Final = 200  # about what an event takes on disk beside its payload
_LOCKED_FOR_S: Final = 1.0  # by a process of the same name that is still ending
_UNREADABLE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_REFUSALS: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_NOMEM,
    }
)
# Positions are never used twice, or one that was sent could hide one that was not.
_SCHEMA: Final = f"""
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE waiting (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  camera TEXT NOT NULL,
  received_at REAL NOT NULL,
  payload BLOB NOT NULL
);
PRAGMA user_version = {_VERSION};
COMMIT;
"""


class SpoolRefusedError(HubError):
    """The disk does not take it: full, broken, read-only. What was to be put is still its owner's."""


class _UnreadableError(Exception):
    """The file is no spool of ours, or no longer one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolPlace:
    """Where a spool is, and how much it may hold."""

    path: Path
    max_bytes: int = 64 * 2**20
    max_age_s: float = 86_400.0  # by the wall clock, which outlives a restart


class Spool:
    """Results, oldest first. Its counts are for its owner, who clears the last three once they are told."""

    def __init__(self, place: SpoolPlace) -> None:
        self._place = place
        self._lock = threading.RLock()  # one call at a time, a last one from an owner that was cancelled included
        self._database: sqlite3.Connection | None = None
        self._bytes = 0
        self._gone = 0  # up to which position all are sent or lost, whether they could be deleted or not
        self.count = 0  # of results that are not sent
        self.lost: Counter[str] = Counter()  # by reason
        self.found = 0  # of results that an earlier process has left
        self.files_set_aside = 0

    @property
    def left_behind(self) -> bool:
        """Whether there is a file that this process has not opened yet."""
        return self._database is None and self._place.path.exists()

    def open(self) -> None:
        """Take over what an earlier process has left. Raises `SpoolRefusedError`."""
        self._do(self._trim)

    def put(self, results: Sequence[Outgoing]) -> None:
        """Put results behind the others, all or none; beyond a bound the oldest are lost.

        One that is there already, by its id, is a lost `duplicate`. Raises `SpoolRefusedError`.
        """
        self._do(lambda database: self._put(database, results))

    def oldest(self, most: int, most_bytes: int) -> tuple[list[Outgoing], int]:
        """The oldest, at least one where there is one, and the position to name when they are sent.

        Raises `SpoolRefusedError`.
        """
        return self._do(lambda database: self._oldest(database, most, most_bytes))

    def sent(self, results: Sequence[Outgoing], position: int) -> None:
        """The oldest have arrived. A disk that is too full to delete them keeps them from the next process only."""
        self._gone = position
        self.count -= len(results)
        self._bytes -= _size(results)
        with contextlib.suppress(SpoolRefusedError):
            self._do(self._delete)

    def close(self) -> None:
        """Let go of the file, which stays where something is in it."""
        with self._lock:
            if self._database is None:
                return
            database, self._database = self._database, None
            with contextlib.suppress(sqlite3.Error):  # such as a checkpoint on a full disk: its log is there to stay
                database.close()
            if self.count == 0:
                self._gone = 0
                for file in self._files():
                    with contextlib.suppress(OSError):
                        file.unlink(missing_ok=True)

    def _files(self) -> tuple[Path, Path]:
        return self._place.path, self._place.path.with_name(f"{self._place.path.name}-wal")

    def _do(self, work: Callable[[sqlite3.Connection], Outcome]) -> Outcome:
        """Work on the file, on a new one where the old one cannot be read; no file is kept for nothing."""
        with self._lock:
            try:
                try:
                    return self._attempt(work)
                except _UnreadableError as error:
                    self._set_aside(error)
                    return self._attempt(work)
            except _UnreadableError as error:
                raise self._refused(str(error)) from error
            except OSError as error:
                raise self._refused(error.strerror or str(error)) from error
            finally:
                if self.count == 0:
                    self.close()

    def _attempt(self, work: Callable[[sqlite3.Connection], Outcome]) -> Outcome:
        try:
            if self._database is None:
                self._database = self._opened()
            with self._transaction(self._database):
                return work(self._database)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _UNREADABLE:
                raise _UnreadableError(str(error)) from error
            if code in _REFUSALS:
                raise self._refused(str(error)) from error
            raise

    def _refused(self, reason: str) -> SpoolRefusedError:
        return SpoolRefusedError(f"{self._place.path}, where results wait for Redis, cannot be used ({reason})")

    def _opened(self) -> sqlite3.Connection:
        path = self._place.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its log the rights of the file
        database = sqlite3.connect(path, timeout=_LOCKED_FOR_S, isolation_level=None, check_same_thread=False)
        try:
            # Nobody else's, so that there is no third file for the sharing of it.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA synchronous = NORMAL")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if (version, tables) == (0, 0):
                database.executescript(_SCHEMA)
                version = _VERSION
            if version == _VERSION:
                count, payload_bytes = database.execute(
                    "SELECT count(*), coalesce(sum(length(payload)), 0) FROM waiting WHERE position > ?", (self._gone,)
                ).fetchone()
        except BaseException:
            database.close()
            raise
        if version != _VERSION:
            database.close()
            raise _UnreadableError(f"it is of version {version}, and this program knows {_VERSION}")
        self.count, self._bytes = count, payload_bytes + count * _ROW_BYTES
        self.found += count
        return database

    @contextlib.contextmanager
    def _transaction(self, database: sqlite3.Connection) -> Iterator[None]:
        """All of it or nothing, the counts included."""
        before = self.count, self._bytes, self._gone, self.lost.copy()
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            self.count, self._bytes, self._gone, self.lost = before
            if database.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
            raise

    def _set_aside(self, error: _UnreadableError) -> None:
        """Make room for a new file; what the old one held is lost, and kept for whoever can read it."""
        aside = self._place.path.with_name(f"{self._place.path.name}.set-aside")
        log.warning(
            "%s cannot be read (%s); it is kept as %s, and %s lost",
            *(self._place.path, error, aside.name),
            f"{self.count} results are" if self._database is not None else "what was in it is",
        )
        self.lost["spool_corrupt"] += self.count
        self.files_set_aside += 1
        self.count = self._bytes = self._gone = 0
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        for file, new in zip(self._files(), (aside, aside.with_name(f"{aside.name}-wal")), strict=True):
            new.unlink(missing_ok=True)
            if file.exists():
                file.rename(new)

    def _put(self, database: sqlite3.Connection, results: Sequence[Outgoing]) -> None:
        duplicates = []
        for each in results:
            stored = database.execute(
                "INSERT OR IGNORE INTO waiting (id, camera, received_at, payload) VALUES (?, ?, ?, ?)",
                (each.id, each.camera, each.received_at, each.payload),
            )
            if stored.rowcount == 0:
                duplicates.append(each)
        self.count += len(results) - len(duplicates)
        self._bytes += _size(results) - _size(duplicates)
        if duplicates:
            self.lost["duplicate"] += len(duplicates)
        self._trim(database)
        self._delete(database)

    def _trim(self, database: sqlite3.Connection) -> None:
        """Give up the oldest that are too old, or too many. They are deleted with the next that are sent or put."""
        born = time.time() - self._place.max_age_s
        rows = database.execute(
            "SELECT position, received_at, length(payload) FROM waiting WHERE position > ? ORDER BY position",
            (self._gone,),
        )
        for position, received_at, payload_bytes in rows:
            if received_at >= born and self._bytes <= self._place.max_bytes:
                break
            self.lost["spool_old" if received_at < born else "spool_full"] += 1
            self.count -= 1
            self._bytes -= payload_bytes + _ROW_BYTES
            self._gone = position
        rows.close()

    def _delete(self, database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM waiting WHERE position <= ?", (self._gone,))

    def _oldest(self, database: sqlite3.Connection, most: int, most_bytes: int) -> tuple[list[Outgoing], int]:
        self._trim(database)
        found: list[Outgoing] = []
        last, size = self._gone, 0
        rows = database.execute(
            "SELECT position, id, camera, received_at, payload FROM waiting "
            "WHERE position > ? ORDER BY position LIMIT ?",
            (self._gone, most),
        )
        for position, name, camera, received_at, payload in rows:
            size += len(payload)
            if found and size > most_bytes:
                break
            found.append(Outgoing(id=name, camera=camera, payload=payload, received_at=received_at))
            last = position
        rows.close()
        return found, last


def _size(results: Iterable[Outgoing]) -> int:
    return sum(len(each.payload) + _ROW_BYTES for each in results)
