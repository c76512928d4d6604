"""Unix sockets: listeners, paths of any length, and the process at the other end of a connection."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_CREDENTIALS: Final = struct.Struct("=iII")  # pid, uid, gid: `struct ucred` of unix(7)


class _HasOptions(Protocol):
    """A socket, or the object that asyncio passes to protocols in place of a socket."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Yield a path to the same socket that fits into the 107 bytes of a socket address. Raises `OSError`."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def unix_listener(path: Path) -> socket.socket:
    """Return a listening socket with mode 0600 that replaces an earlier process's socket. Raises `OSError`."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    try:
        before = os.umask(0o177)  # a chmod after the bind would leave the socket open to others for a moment
        try:
            with short_path(path) as address:
                listening.bind(address)
        finally:
            os.umask(before)
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


class Peer(NamedTuple):
    """The process at the other end of a connection, according to the kernel (SO_PEERCRED)."""

    pid: int
    uid: int


def peer_of(connection: _HasOptions) -> Peer:
    """Return the process at the other end of a connection."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, uid)


def is_confined(peer: Peer) -> bool:
    """Return whether a process of this user is more restricted than this process or has ended.

    Camera workers run under the hub's user id but restrict themselves (`sandbox`), and no process can undo that. For
    processes of other users, /proc may be unreadable, but no camera worker has another user id.
    """
    if peer.uid != os.geteuid():
        return False
    try:
        theirs, ours = _restrictions(str(peer.pid)), _restrictions("self")
    except OSError:
        return True
    return any(their > our for their, our in zip(theirs, ours, strict=True))


def _restrictions(process: str) -> list[int]:
    """Return whether a process can gain no privileges, and the number of its system call filters. Raises `OSError`."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    # Linux 5.9 and later report Seccomp_filters, and Linux 3.8 and later report Seccomp (2: filtered).
    return [int(fields.get("NoNewPrivs", "0")), int(fields.get("Seccomp_filters") or fields.get("Seccomp", "0"))]
