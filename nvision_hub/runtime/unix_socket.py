"""Unix sockets: listening, paths of any length, and the user at the other end of a connection."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CREDENTIALS: Final = struct.Struct("=iII")  # pid, uid, gid: `struct ucred` of unix(7)


class _HasOptions(Protocol):
    """A socket, or the object that asyncio gives to protocols in place of the socket."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Provide a path to the same socket, short enough for the 107 bytes of a socket address. Raises `OSError`."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def unix_listener(path: Path) -> socket.socket:
    """Return a listening socket with mode 0600 in place of the socket of an earlier process. Raises `OSError`."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    try:
        before = os.umask(0o177)  # a later chmod would leave the socket open to others for a moment
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


def peer_uid(connection: _HasOptions) -> int:
    """Return the user id of the process at the other end. The kernel supplies the id (SO_PEERCRED)."""
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
