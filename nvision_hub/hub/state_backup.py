"""Backup of the state directory as one ZIP file: usage of images, run-time changes, and spools.

SQLite can copy a database consistently while the ledger writes to it. A running hub needs exclusive use of its spools,
so a backup contains spools only if no hub runs. A restore never replaces a spool, because this would lose the spool's
results. A backup contains no tokens, logs or certificates.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nvision_hub import __version__
from nvision_hub.access.private_files import open_private
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.hub.override_store import FILE as OVERRIDES
from nvision_hub.hub.override_store import parse
from nvision_hub.hub.state_dir import (
    LEDGER,
    LOCK,
    SPOOL_FILE,
    SPOOLS,
    is_private,
    locked_if_unused,
    sole_use,
    unwritable,
)
from nvision_hub.timestamps import iso_utc
from workers.camera.tracks import SPOOL_FILE as TRACK_SPOOL_FILE
from workers.ledger.worker import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT: Final = "nvision-hub state"
VERSION: Final = 1  # version of the ZIP file and of the databases in it
MANIFEST: Final = "backup.json"
_USAGE: Final = f"{LEDGER}/{FILE_NAME}"
_SPOOL_FILES: Final = (SPOOL_FILE, TRACK_SPOOL_FILE)
_SPOOL: Final = re.compile(rf"{SPOOLS}/(?:@callback|[a-z0-9][a-z0-9_-]*)/(?:{'|'.join(map(re.escape, _SPOOL_FILES))})")
# A ZIP file with a password, or with a compression that Python does not support, causes a `RuntimeError`.
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
_FOREIGN: Final = "is not a backup of a hub; choose a file that `nvision-hub backup` wrote"


@dataclass(frozen=True, kw_only=True)
class BackupContent:
    """Files of a backup, as paths relative to the state directory."""

    files: tuple[str, ...]
    created_at: str
    is_hub_running: bool = False  # if true, the backup does not contain the spools


def write_backup(state_dir: Path, target: Path) -> BackupContent:
    """Write the backup as a new private file (0600). Raises `UnavailableError` if the state or `target` is unusable."""
    with contextlib.ExitStack() as stack:
        try:
            is_hub_running = stack.enter_context(locked_if_unused(state_dir))
            spools = [] if is_hub_running else _spools(state_dir)
            databases = [file for file in (state_dir / _USAGE, *spools) if file.exists()]
            overrides = [file for file in (state_dir / OVERRIDES,) if file.exists()]
        except OSError as error:
            raise _unreadable(state_dir, error) from error
        return _write(state_dir, databases, overrides, target, is_hub_running=is_hub_running)


def _spools(state_dir: Path) -> list[Path]:
    return sorted(file for name in _SPOOL_FILES for file in (state_dir / SPOOLS).glob(f"*/{name}"))


def _write(
    state_dir: Path, databases: Sequence[Path], overrides: Sequence[Path], target: Path, *, is_hub_running: bool
) -> BackupContent:
    if not databases and not overrides:
        raise UnavailableError(f"{state_dir} contains no state of a hub; check --state-dir")
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise UnavailableError(f"{target} exists; remove it, or choose another file") from error
    except OSError as error:
        raise UnavailableError(f"{target} cannot be written ({error.strerror}); choose another file") from error
    names = tuple(file.relative_to(state_dir).as_posix() for file in (*databases, *overrides))
    content = BackupContent(files=names, created_at=iso_utc(time.time()), is_hub_running=is_hub_running)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "hub_version": __version__,
        "created_at": content.created_at,
        "files": names,
    }
    try:
        with (
            os.fdopen(descriptor, "wb") as stream,
            # Without a hardware clock, the machine's time may be in 1970, but ZIP times begin in 1980.
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive,
            tempfile.TemporaryDirectory(dir=target.parent, prefix=".nvision-hub-backup-") as folder,
        ):
            archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest))
            for database in databases:
                archive.write(_copy(database, Path(folder) / "copy.sqlite3"), database.relative_to(state_dir))
            for file in overrides:
                archive.write(file, file.relative_to(state_dir))
    except (OSError, sqlite3.Error) as error:
        target.unlink(missing_ok=True)
        raise UnavailableError(
            f"the backup to {target} failed: {error}; check the disks, and repeat the command"
        ) from error
    except BaseException:  # also if the user interrupts the command
        target.unlink(missing_ok=True)
        raise
    return content


def _copy(database: Path, target: Path) -> Path:
    """Copy a database that another process may be writing.

    Raises `sqlite3.Error`, for example for a locked database.
    """
    target.unlink(missing_ok=True)
    address = f"{database.absolute().as_uri()}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(address, uri=True)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        # `backup` waits indefinitely for a locked database, but not within a transaction.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # leaves only one file
    return target


def restore_backup(source: Path, state_dir: Path) -> BackupContent:
    """Replace the usage and the run-time changes in the state directory, and add the spools of the backup.

    The function checks all files before it replaces the first. If root runs it, the owner of the directory also owns
    the new files. Raises `UnavailableError` while a hub uses the directory, or if other programs may also use the
    directory. Raises `HubError` if a spool would be replaced, or if the file is not a backup, is damaged, or was
    written by a later version of the hub.
    """
    try:
        is_foreign = state_dir.exists() and os.geteuid() not in {0, state_dir.stat().st_uid}
        if state_dir.exists():
            is_private(state_dir)
    except OSError as error:
        raise _unreadable(state_dir, error) from error
    if is_foreign:  # otherwise, the hub could not read the files
        raise HubError(f"{state_dir} belongs to another user; run the command as root or as the hub's own user")
    with _opened(source) as (archive, content), tempfile.TemporaryDirectory(prefix="nvision-hub-restore-") as folder:
        _extract(archive, content.files, Path(folder), source)
        try:
            if state_dir.exists():
                os.close(open_private(state_dir / LOCK, os.O_WRONLY))
            with sole_use(state_dir):
                _keep_spools(state_dir, content.files)
                for name in content.files:
                    _replace(Path(folder) / name, state_dir, name)
                if OVERRIDES not in content.files:  # none existed at the time of the backup
                    (state_dir / OVERRIDES).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(state_dir, error) from error
    return content


def _extract(archive: zipfile.ZipFile, names: Sequence[str], folder: Path, source: Path) -> None:
    """Extract all files and check them."""
    try:
        for name in names:
            archive.extract(name, folder)
            if name != OVERRIDES:
                _check_database(folder / name, source)
        if OVERRIDES in names:
            parse((folder / OVERRIDES).read_bytes())
    except (*_DAMAGED, ValueError) as error:
        raise HubError(f"{source} is damaged: {error}; use another backup") from error
    except OSError as error:
        reason = error.strerror or error
        raise UnavailableError(
            f"{folder} cannot be written ({reason}); free some space there, or set TMPDIR to another directory"
        ) from error


def _keep_spools(state_dir: Path, names: Sequence[str]) -> None:
    """Raise `HubError` if restoring would replace a spool."""
    for file in (state_dir / name for name in names if _SPOOL.fullmatch(name)):
        if file.exists():
            raise HubError(
                f"{file} contains results that wait for Redis, and the restore would replace them; start the hub until "
                "Redis has received them, or remove the file, and repeat the command"
            )


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[tuple[zipfile.ZipFile, BackupContent]]:
    """Open a backup, and check its manifest and the names of its files."""
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(source))
            manifest = json.loads(archive.read(MANIFEST))
            created_at, version, written_by = (str(manifest[key]) for key in ("created_at", "version", "hub_version"))
            listed = {str(name) for name in manifest["files"]}
            is_foreign = manifest["format"] != FORMAT or not version.isdecimal()
        except OSError as error:
            raise UnavailableError(f"{source} cannot be read ({error.strerror}); check the file") from error
        except (*_DAMAGED, ValueError, KeyError, TypeError) as error:
            raise HubError(f"{source} {_FOREIGN}") from error
        if is_foreign:
            raise HubError(f"{source} {_FOREIGN}")
        if int(version) > VERSION:
            raise HubError(
                f"{source} was written by nvision-hub {written_by}, and this version ({__version__}) cannot read it; "
                "upgrade nvision-hub"
            )
        names = [name for name in dict.fromkeys(archive.namelist()) if name != MANIFEST]
        if unknown := [name for name in names if name not in {_USAGE, OVERRIDES} and not _SPOOL.fullmatch(name)]:
            raise HubError(f"{source} contains {unknown[0]!r}, so it {_FOREIGN}")
        if listed != set(names):
            raise HubError(f"{source} is incomplete; use another backup")
        yield archive, BackupContent(files=tuple(names), created_at=created_at)


def _unreadable(state_dir: Path, error: OSError) -> UnavailableError:
    reason = error.strerror or error
    return UnavailableError(f"{state_dir} cannot be read ({reason}); run the command as root or as the hub's own user")


def _check_database(file: Path, source: Path) -> None:
    """Check an extracted database and prepare it for the hub. Raises `HubError` if the database is damaged."""
    try:
        with contextlib.closing(sqlite3.connect(file)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            database.execute("PRAGMA journal_mode = WAL")  # the hub sets this mode only in a new file
    except sqlite3.Error as error:
        verdict, version = str(error), VERSION
    if version != VERSION:
        verdict = f"its version is {version}, not {VERSION}"
    if verdict != "ok":
        raise HubError(f"{source} is damaged: {file.name} fails its check ({verdict}); use another backup")


def _replace(new: Path, state_dir: Path, name: str) -> None:
    file = state_dir / name
    for folder in reversed(file.relative_to(state_dir).parents[:-1]):
        _make_folder(state_dir / folder, state_dir)
    staged = file.with_name(f"{file.name}.new")
    staged.unlink(missing_ok=True)
    with os.fdopen(open_private(staged, os.O_WRONLY | os.O_EXCL), "wb") as target, new.open("rb") as content:
        shutil.copyfileobj(content, target)
        target.flush()
        os.fsync(target.fileno())
    for ending in ("-wal", "-shm"):  # files of the replaced database
        file.with_name(f"{file.name}{ending}").unlink(missing_ok=True)
    staged.replace(file)


def _make_folder(folder: Path, state_dir: Path) -> None:
    """Create a folder with the owner of the state directory. Raises `HubError` for a link, which could lead outside."""
    if folder.is_symlink():
        raise HubError(f"{folder} is a link; replace it with a directory")
    if folder.is_dir():
        return
    folder.mkdir(mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.geteuid() == 0:
            owner = state_dir.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)
