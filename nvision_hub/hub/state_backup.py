"""Backup of the state directory as one ZIP file: the usage of images, run-time changes and spools.

SQLite copies a database consistently while the ledger writes to it. A running hub uses its spools exclusively, so a
backup contains spools only if no hub runs. A backup contains no tokens, logs or certificates.
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
from nvision_hub.hub.state_dir import LEDGER, LOCK, SPOOL_FILE, SPOOLS, read_endpoints, sole_use, unwritable
from nvision_hub.timestamps import iso_utc
from workers.ledger.worker import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT: Final = "nvision-hub state"
VERSION: Final = 1  # of the ZIP file and of the databases in it
MANIFEST: Final = "backup.json"
_USAGE: Final = f"{LEDGER}/{FILE_NAME}"
_SPOOL: Final = re.compile(rf"{SPOOLS}/(?:@callback|[a-z0-9][a-z0-9_-]*)/{re.escape(SPOOL_FILE)}")
# A ZIP file with a password, or with a compression that Python does not know, causes a `RuntimeError`.
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
_FOREIGN: Final = "is not a backup of a hub; choose a file that `nvision-hub backup` wrote"


@dataclass(frozen=True, kw_only=True)
class BackupContent:
    """Files of a backup, as paths relative to the state directory."""

    files: tuple[str, ...]
    created_at: str
    is_hub_running: bool = False  # if true, the backup lacks the spools


def write_backup(state_dir: Path, target: Path) -> BackupContent:
    """Write a new private file (0600). Raises `UnavailableError` if the state or the target cannot be used."""
    is_hub_running = read_endpoints(state_dir) is not None
    try:
        spools = [] if is_hub_running else sorted((state_dir / SPOOLS).glob(f"*/{SPOOL_FILE}"))
        databases = [file for file in (state_dir / _USAGE, *spools) if file.exists()]
        overrides = [file for file in (state_dir / OVERRIDES,) if file.exists()]
    except OSError as error:
        raise _unreadable(state_dir, error) from error
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
        "format": FORMAT, "version": VERSION, "hub_version": __version__, "created_at": content.created_at
    }  # fmt: skip
    try:
        with (
            os.fdopen(descriptor, "wb") as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
            tempfile.TemporaryDirectory(dir=target.parent, prefix=".nvision-hub-backup-") as folder,
        ):
            archive.writestr(MANIFEST, json.dumps(manifest))
            for database in databases:
                archive.write(_copy(database, Path(folder) / "copy.sqlite3"), database.relative_to(state_dir))
            for file in overrides:
                archive.write(file, file.relative_to(state_dir))
    except (OSError, sqlite3.Error) as error:
        target.unlink(missing_ok=True)
        raise UnavailableError(
            f"the backup to {target} failed: {error}; check the disks, and repeat the command"
        ) from error
    return content


def _copy(database: Path, target: Path) -> Path:
    """Copy a database that may be in use."""
    target.unlink(missing_ok=True)
    address = f"{database.absolute().as_uri()}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(address, uri=True)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # leaves a single file
    return target


def restore_backup(source: Path, state_dir: Path) -> BackupContent:
    """Replace the files in the state directory that the backup contains.

    All files are checked before the first is replaced. The owner of the directory also owns the new files if root runs
    this. Raises `UnavailableError` while a hub uses the directory, and `HubError` if the file is not a backup, is
    damaged, or was written by a later version of the hub.
    """
    try:
        is_foreign = state_dir.exists() and os.geteuid() not in {0, state_dir.stat().st_uid}
    except OSError as error:
        raise _unreadable(state_dir, error) from error
    if is_foreign:  # the hub could not read the files
        raise HubError(f"{state_dir} belongs to another user; run the command as root or as the hub's own user")
    with _opened(source) as (archive, content), tempfile.TemporaryDirectory(prefix="nvision-hub-restore-") as folder:
        try:
            for name in content.files:
                archive.extract(name, folder)
                if name != OVERRIDES:
                    _check_database(Path(folder) / name, source)
            if state_dir.exists():
                os.close(open_private(state_dir / LOCK, os.O_WRONLY))
            with sole_use(state_dir):
                for name in content.files:
                    _replace(Path(folder) / name, state_dir, name)
        except _DAMAGED as error:
            raise HubError(f"{source} is damaged: {error}; use another backup") from error
        except OSError as error:
            raise unwritable(state_dir, error) from error
    return content


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[tuple[zipfile.ZipFile, BackupContent]]:
    """Open a backup and check its manifest and the names of its files."""
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(source))
            manifest = json.loads(archive.read(MANIFEST))
            created_at, version, written_by = (str(manifest[key]) for key in ("created_at", "version", "hub_version"))
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
        yield archive, BackupContent(files=tuple(names), created_at=created_at)


def _unreadable(state_dir: Path, error: OSError) -> UnavailableError:
    reason = error.strerror or error
    return UnavailableError(f"{state_dir} cannot be read ({reason}); run the command as root or as the hub's own user")


def _check_database(file: Path, source: Path) -> None:
    """Check an extracted database, and prepare it for the hub. Raises `HubError` if it is damaged."""
    try:
        with contextlib.closing(sqlite3.connect(file)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            database.execute("PRAGMA journal_mode = WAL")  # the hub sets this mode only when it creates a file
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
    for ending in ("-wal", "-shm"):  # of the replaced database
        file.with_name(f"{file.name}{ending}").unlink(missing_ok=True)
    staged.replace(file)


def _make_folder(folder: Path, state_dir: Path) -> None:
    """Create a folder with the owner of the state directory. Raises `HubError` for a link, which may lead outside."""
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
