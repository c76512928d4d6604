"""State directory of the hub: creation, permissions, the lock for one hub at a time, and the hub's endpoints."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger("nvision_hub.hub")

CERTIFICATES: Final = "camera-certificates"  # directory with the known fingerprints of cameras
LEDGER: Final = "ledger"  # directory with the socket and the database of the ledger
LOCK: Final = "hub.lock"  # file that a running hub locks
SPOOLS: Final = "spool"  # one directory per process, which no other camera worker can read
SPOOL_FILE: Final = "results.sqlite3"


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Addresses of a running hub. Commands read them from `state_dir/hub.json` or the hub's record (`running_hubs`)."""

    pid: int
    site: str
    redis: str  # without the password, which commands read from cameras.yaml or from the broker's password file
    prefix: str
    service: str | None  # base address of the local service; None if the hub runs no local service
    demo: str | None
    gateway: str | None = None  # base address of the page and the API; None if the hub runs no gateway
    redis_socket: str | None = None  # path of the embedded broker's unix socket; None if the broker is not embedded
    redis_open: bool = False  # whether the embedded broker needs no password
    control: str | None = None  # path of the control socket; None if the hub has none
    state_dir: str | None = None  # absolute path; None for a hub on another machine
    config: str | None = None  # absolute path of cameras.yaml; None for a hub on another machine


def move_old_spools(state_dir: Path) -> None:
    """Move spools of earlier versions, `spool/lobby.sqlite3`, to the directories of their processes."""
    for file in (state_dir / SPOOLS).glob("*.sqlite3*"):
        name, _, ending = file.name.partition(".sqlite3")
        try:
            file.with_name(name).mkdir(mode=0o700, exist_ok=True)
            file.rename(file.with_name(name) / f"{SPOOL_FILE}{ending}")
        except OSError as error:
            log.warning(
                "spool %s cannot be moved: %s; the hub does not read it",
                file,
                error.strerror or error,
                extra={"event": "spool_not_moved"},
            )


@contextlib.contextmanager
def published_endpoints(state_dir: Path, endpoints: Endpoints, record: Path | None = None) -> Iterator[None]:
    """Keep the endpoints in `state_dir`, and in `record` if given, while the context is active.

    Creates the directory of `record`, in which the control socket will also be. Raises `UnavailableError`.
    """
    with contextlib.ExitStack() as stack:
        content = json.dumps(asdict(endpoints))
        if record is not None:
            stack.callback(_remove, record)
            try:
                if not record.parent.exists():
                    record.parent.mkdir()
                    record.parent.chmod(0o755)  # other users' units may have subdirectories; the files are private
                record.write_text(content, encoding="utf-8")
            except OSError as error:
                reason = error.strerror or error
                log.warning("record %s not written: %s; commands find this hub by --state-dir only", record, reason,
                            extra={"event": "record_unwritable"})  # fmt: skip
        file = state_dir / "hub.json"
        stack.callback(file.unlink, missing_ok=True)
        try:
            file.write_text(content, encoding="utf-8")
        except OSError as error:
            raise unwritable(state_dir, error) from error
        yield


def read_endpoints(state_dir: Path) -> Endpoints | None:
    """Return the endpoints of the hub that uses `state_dir`; None if no hub uses it."""
    return read_record(state_dir / "hub.json")


def read_record(file: Path) -> Endpoints | None:
    """Return the endpoints in a hub's record; None if the file is missing or damaged, or if the hub has ended."""
    try:
        endpoints = Endpoints(**json.loads(file.read_text(encoding="utf-8")))
        texts = {name: value for name, value in asdict(endpoints).items() if name not in {"pid", "redis_open"}}
        if not all(value is None or isinstance(value, str) for value in texts.values()):
            return None
        with contextlib.suppress(PermissionError):  # the hub runs as another user, so it still exists
            os.kill(endpoints.pid, 0)  # raises ProcessLookupError if the record belongs to a killed hub
    except (OSError, ValueError, TypeError, OverflowError):
        return None
    return endpoints


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


@contextlib.contextmanager
def sole_use(state_dir: Path) -> Iterator[None]:
    """Create `state_dir` if needed, and lock it while the context is active. Raises `UnavailableError`."""
    os.umask(0o077)
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_private(state_dir):
            state_dir.chmod(0o700)
            log.warning(
                "state_dir %s was open to other users of this machine; its permissions are now 0700",
                state_dir,
                extra={"event": "state_dir_closed"},
            )
        lock = (state_dir / LOCK).open("a")
    except OSError as error:
        raise unwritable(state_dir, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            running = read_endpoints(state_dir)
            raise UnavailableError(
                f"another hub{f' (pid {running.pid})' if running else ''} uses {state_dir}; "
                "stop that hub, or choose another state_dir"
            ) from error
        yield


@contextlib.contextmanager
def locked_if_unused(state_dir: Path) -> Iterator[bool]:
    """Yield whether a hub uses `state_dir`. If no hub uses it, no hub can start while the context is active.

    Raises `OSError` if the directory cannot be read.
    """
    with contextlib.ExitStack() as stack:
        is_used = False
        with contextlib.suppress(FileNotFoundError):  # no hub has ever used the directory
            descriptor = os.open(state_dir / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_used = True
        yield is_used


def is_private(state_dir: Path) -> bool:
    """Return whether only the owner can access the directory. Results show where people are, so this is required.

    Returns False if the hub may revoke the access of other users, because the directory is empty or belongs to a hub.
    Raises `UnavailableError` if the hub must not revoke it, because others may use the directory (for example `/tmp`).
    """
    found = state_dir.stat()
    if not found.st_mode & 0o077:
        return True
    theirs = any(state_dir.iterdir()) and not (state_dir / LOCK).exists()
    if theirs or found.st_uid != os.geteuid():
        raise UnavailableError(
            f"state_dir {state_dir} is open to other users of this machine; use a directory for the hub alone, such as "
            f"{state_dir / 'hub'}, or remove the rights of other users (chmod 700 {state_dir})"
        )
    return False


def unwritable(state_dir: Path, error: OSError) -> UnavailableError:
    is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    fix = "free some space there" if is_full else "choose another state_dir, or fix its permissions"
    return UnavailableError(f"state_dir {state_dir} cannot be written ({error.strerror}); {fix}")
