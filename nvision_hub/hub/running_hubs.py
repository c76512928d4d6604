"""Hubs that run on this machine: the location of each control socket, and the search that commands use.

Each hub has a record (`<key>.json`) and a control socket (`<key>.sock`) in a runtime directory. `<key>` is derived from
the hub's state directory, so the files of different hubs do not collide. The runtime directory is `$RUNTIME_DIRECTORY`
(a systemd unit, a container), `$XDG_RUNTIME_DIR/nvision-hub` (a login session) or `/run/nvision-hub` (root). If a hub
can use none of these directories, its socket is in its state directory, where commands find it by `--state-dir`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nvision_hub.hub.state_dir import read_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nvision_hub.hub.state_dir import Endpoints

PROGRAM: Final = "nvision-hub"
RUN: Final = Path("/run")
RUNTIME_VARIABLE: Final = "RUNTIME_DIRECTORY"  # systemd.exec, "RUNTIME_DIRECTORY"
SESSION_VARIABLE: Final = "XDG_RUNTIME_DIR"
MAX_RECORD_BYTES: Final = 64 * 1024
SOCKET_NAME: Final = "control.sock"  # in a state directory


def control_socket(state_dir: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the control socket for a hub of this user. Creates no file."""
    key = hashlib.sha256(os.fsencode(state_dir.absolute())).hexdigest()[:16]
    for folder in _own_folders(environ):
        if _is_usable(folder):
            return folder / f"{key}.sock"
    return state_dir.absolute() / SOCKET_NAME


def record_of(socket: Path) -> Path | None:
    """Return the path of the record beside a control socket; None for a socket in a state directory."""
    return None if socket.name == SOCKET_NAME else socket.with_suffix(".json")


def running_hubs(environ: Mapping[str, str] = os.environ) -> list[Endpoints]:
    """Return the running hubs on this machine that this user may control, sorted by site. Root sees all hubs."""
    found = {}
    for folder in _searched_folders(environ):
        for file in sorted(folder.glob("*.json")):
            if (endpoints := _genuine_record(file)) is not None:
                found[endpoints.state_dir] = endpoints
    return sorted(found.values(), key=lambda each: (each.site, each.state_dir or ""))


def _own_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the runtime directories that a hub of this user may use, in order of preference."""
    if given := environ.get(RUNTIME_VARIABLE, "").partition(":")[0]:
        yield Path(given)
    if session := environ.get(SESSION_VARIABLE):
        yield Path(session) / PROGRAM
    if os.geteuid() == 0:
        yield RUN / PROGRAM


def _searched_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the runtime directories in which hubs may have records."""
    if given := environ.get(RUNTIME_VARIABLE, "").partition(":")[0]:
        yield Path(given)
        return
    if session := environ.get(SESSION_VARIABLE):
        yield Path(session) / PROGRAM
    yield RUN / PROGRAM
    yield from (RUN / PROGRAM).glob("*/")  # each systemd unit has its own directory
    if os.geteuid() == 0:
        yield from (RUN / "user").glob(f"*/{PROGRAM}")


def _is_usable(folder: Path) -> bool:
    """Return whether this user may create `folder`, or owns `folder` and may write to it."""
    try:
        found = folder.stat()
    except OSError:
        parent = folder.parent
        return parent.is_dir() and parent.stat().st_uid in {0, os.geteuid()} and os.access(parent, os.W_OK | os.X_OK)
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return is_own and os.access(folder, os.W_OK | os.X_OK)


def _genuine_record(file: Path) -> Endpoints | None:
    """Return the endpoints in a record; None unless the user who wrote the record also owns the hub's files.

    Root also reads the records of other users. These users must not direct root's commands to a third user's files, or
    to their own hub in place of another user's hub.
    """
    socket = file.with_suffix(".sock")
    try:
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_RECORD_BYTES:
            return None
        endpoints = read_record(file)
        if endpoints is None or endpoints.state_dir is None or endpoints.control != str(socket):
            return None
        state_dir = Path(endpoints.state_dir)
        owned = [socket.lstat(), state_dir.stat()]
        if endpoints.config is not None and RUN / "user" in file.parents:
            # Every user may write records to this directory. In a systemd unit's directory, cameras.yaml may belong to
            # root.
            owned.append(Path(endpoints.config).stat())
        is_genuine = all(each.st_uid == found.st_uid for each in owned)
    except OSError:
        return None
    return endpoints if is_genuine else None
