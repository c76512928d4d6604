"""Spool for results while Redis is unavailable: one SQLite file on disk per process, bounded by bytes and age.

The file exists only while it holds results. If a process is killed, the next process of the same name takes over its
file. Commits do not wait for the disk to sync. A stored result therefore survives a crash of the process, but a power
failure may lose the latest results.

Call the spool from a separate thread, because a slow disk blocks the caller.
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

from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

log = logging.getLogger("nvision_hub.broker")

Value = TypeVar("Value")

_SCHEMA_VERSION: Final = 1
_ROW_BYTES: Final = 200  # approximate size of an event on disk without its payload
_LOCK_TIMEOUT_S: Final = 1.0  # an earlier process of the same name may not have ended yet
_UNREADABLE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DISK_ERRORS: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
    }
)
# Without AUTOINCREMENT, SQLite could reuse the position of a sent result. The new result would then count as sent.
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
PRAGMA user_version = {_SCHEMA_VERSION};
COMMIT;
"""


class SpoolWriteError(HubError):
    """The disk is full, broken or read-only. The caller must keep the results that it wanted to store."""


class _UnreadableError(SpoolWriteError):
    """The file is corrupt or not a spool of this version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolSettings:
    path: Path
    max_bytes: int = 64 * 2**20
    max_age_s: float = 86_400.0  # by the wall clock, because a reboot resets the monotonic clock


class Spool:
    """Stored results, oldest first. The owner reads the counts, and resets `lost`, `found` and `files_set_aside`."""

    def __init__(self, settings: SpoolSettings) -> None:
        self._settings = settings
        self._lock = threading.RLock()  # a call may still run in a thread after the spool's owner is canceled
        self._database: sqlite3.Connection | None = None
        self._bytes = 0
        self._done_to = 0  # every result up to this position is sent or lost, even if its row still exists
        self.count = 0  # stored results that are not sent yet
        self.lost: Counter[str] = Counter()  # by reason
        self.found = 0  # results that an earlier process left
        self.files_set_aside = 0

    @property
    def is_left_behind(self) -> bool:
        """Whether a file exists that this process has not opened yet."""
        return self._database is None and self._settings.path.exists()

    def open(self) -> None:
        """Open the file that an earlier process left. Raises `SpoolWriteError`."""
        self._run(self._trim)

    def put(self, results: Sequence[OutgoingEvent]) -> None:
        """Append all results or none. If the spool then exceeds a bound, it drops its oldest results as lost.

        A result whose id is already stored counts as lost (`duplicate`). Raises `SpoolWriteError`.
        """
        self._run(lambda database: self._put(database, results))

    def oldest(self, max_events: int, max_bytes: int) -> tuple[list[OutgoingEvent], int]:
        """Return the oldest results (at least one unless the spool is empty) and the position to pass to `remove`.

        Raises `SpoolWriteError`.
        """
        return self._run(lambda database: self._oldest(database, max_events, max_bytes))

    def remove(self, results: Sequence[OutgoingEvent], position: int) -> None:
        """Remove the oldest results after they were sent. If the disk fails, the next process sends them again."""
        self._done_to = position
        self.count -= len(results)
        self._bytes -= sum(len(each.payload) + _ROW_BYTES for each in results)
        with contextlib.suppress(SpoolWriteError):
            self._run(self._delete)

    def close(self) -> None:
        """Close the file, and delete it if it holds no unsent results."""
        with self._lock:
            if self._database is None:
                return
            database, self._database = self._database, None
            with contextlib.suppress(sqlite3.Error):  # on a full disk, the checkpoint fails and the WAL stays
                database.close()
            if self.count == 0:
                self._done_to = 0
                for file in self._files():
                    with contextlib.suppress(OSError):
                        file.unlink(missing_ok=True)

    def _files(self) -> tuple[Path, Path]:
        return self._settings.path, self._settings.path.with_name(f"{self._settings.path.name}-wal")

    def _run(self, work: Callable[[sqlite3.Connection], Value]) -> Value:
        """Run `work` on the file, or on a new file if the old one is unreadable.

        Afterward, close the file if it is empty.
        """
        with self._lock:
            try:
                try:
                    return self._attempt(work)
                except _UnreadableError as error:
                    self._set_aside(error)
                    return self._attempt(work)
            except OSError as error:
                raise SpoolWriteError(self._failure(error.strerror or error)) from error
            finally:
                if self.count == 0:
                    self.close()

    def _attempt(self, work: Callable[[sqlite3.Connection], Value]) -> Value:
        try:
            if self._database is None:
                self._database = self._open()
            with self._transaction(self._database):
                return work(self._database)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _UNREADABLE:
                raise _UnreadableError(self._failure(error)) from error
            if code in _DISK_ERRORS:
                raise SpoolWriteError(self._failure(error)) from error
            raise

    def _failure(self, reason: object) -> str:
        return f"the spool {self._settings.path} cannot be used ({reason})"

    def _open(self) -> sqlite3.Connection:
        path = self._settings.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives the WAL the mode of this file
        database = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            # Only one process uses the file, so SQLite needs no shared memory.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA synchronous = NORMAL")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if (version, tables) == (0, 0):
                database.executescript(_SCHEMA)
            elif version != _SCHEMA_VERSION:
                reason = f"its version is {version}, and this program reads version {_SCHEMA_VERSION}"
                raise _UnreadableError(self._failure(reason))  # noqa: TRY301 - the handler closes the file
            self._discard_damaged(database)
            count, payload_bytes = database.execute(
                "SELECT count(*), coalesce(sum(length(payload)), 0) FROM waiting WHERE position > ?", (self._done_to,)
            ).fetchone()
        except BaseException:
            database.close()
            raise
        self.count, self._bytes = count, payload_bytes + count * _ROW_BYTES
        self.found += count
        return database

    def _discard_damaged(self, database: sqlite3.Connection) -> None:
        """Delete rows with values of wrong types, which a damaged disk may leave.

        Count these rows as found and lost.
        """
        damaged = database.execute(
            "DELETE FROM waiting WHERE typeof(id) <> 'text' OR typeof(camera) <> 'text' "
            "OR typeof(received_at) <> 'real' OR typeof(payload) <> 'blob'"
        ).rowcount
        if damaged:
            self.found += damaged
            self.lost["spool_corrupt"] += damaged

    @contextlib.contextmanager
    def _transaction(self, database: sqlite3.Connection) -> Iterator[None]:
        """Run one transaction, and restore the counts if the transaction fails."""
        before = self.count, self._bytes, self._done_to, self.lost.copy()
        database.execute("BEGIN IMMEDIATE")
        try:
            with database:
                yield
        except BaseException:
            self.count, self._bytes, self._done_to, self.lost = before
            raise

    def _set_aside(self, error: _UnreadableError) -> None:
        """Rename the unreadable file, and count its results as lost."""
        aside = self._settings.path.with_name(f"{self._settings.path.name}.set-aside")
        log.warning(
            "%s: renamed to %s; %s lost",
            error,
            aside.name,
            f"{self.count} results are" if self._database is not None else "its content is",
            extra={"event": "spool_set_aside"},
        )
        self.lost["spool_corrupt"] += self.count
        self.files_set_aside += 1
        self.count = self._bytes = self._done_to = 0
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        for file, new in zip(self._files(), (aside, aside.with_name(f"{aside.name}-wal")), strict=True):
            new.unlink(missing_ok=True)
            if file.exists():
                file.rename(new)

    def _put(self, database: sqlite3.Connection, results: Sequence[OutgoingEvent]) -> None:
        for each in results:
            stored = database.execute(
                "INSERT OR IGNORE INTO waiting (id, camera, received_at, payload) VALUES (?, ?, ?, ?)",
                (each.id, each.camera, each.received_at, each.payload),
            )
            if stored.rowcount:
                self.count += 1
                self._bytes += len(each.payload) + _ROW_BYTES
            else:
                self.lost["duplicate"] += 1
        self._trim(database)
        self._delete(database)

    def _trim(self, database: sqlite3.Connection) -> None:
        """Count the oldest results beyond the size or age bound as lost. The next `put` or `remove` deletes them."""
        oldest_at = time.time() - self._settings.max_age_s
        rows = database.execute(
            "SELECT position, received_at, length(payload) FROM waiting WHERE position > ? ORDER BY position",
            (self._done_to,),
        )
        for position, received_at, payload_bytes in rows:
            if received_at >= oldest_at and self._bytes <= self._settings.max_bytes:
                break
            self.lost["spool_old" if received_at < oldest_at else "spool_full"] += 1
            self.count -= 1
            self._bytes -= payload_bytes + _ROW_BYTES
            self._done_to = position
        rows.close()

    def _delete(self, database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM waiting WHERE position <= ?", (self._done_to,))

    def _oldest(self, database: sqlite3.Connection, max_events: int, max_bytes: int) -> tuple[list[OutgoingEvent], int]:
        self._trim(database)
        found: list[OutgoingEvent] = []
        last, size = self._done_to, 0
        rows = database.execute(
            "SELECT position, id, camera, received_at, payload FROM waiting "
            "WHERE position > ? ORDER BY position LIMIT ?",
            (self._done_to, max_events),
        )
        for position, event_id, camera, received_at, payload in rows:
            size += len(payload)
            if found and size > max_bytes:
                break
            found.append(OutgoingEvent(id=event_id, camera=camera, payload=payload, received_at=received_at))
            last = position
        rows.close()
        return found, last
