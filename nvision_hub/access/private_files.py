"""Private files in the state directory, which the gateway and the command line both write.

Only the hub's user can read the files (0600). If root runs a command, the owner of the state directory becomes the
owner of the file. Otherwise, the hub could not read the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FLAGS: Final = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def open_private(file: Path, flags: int) -> int:
    """Open a file, or create it with mode 0600, and return its descriptor. Raises `OSError`."""
    # The folder may belong to another user. This user could replace the folder between two calls that use its path.
    folder = os.open(file.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = os.open(file.name, flags | _FLAGS, 0o600, dir_fd=folder)
        owner = os.fstat(folder)
    finally:
        os.close(folder)
    try:
        if os.geteuid() == 0 and os.fstat(descriptor).st_uid != owner.st_uid:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def exclusive_lock(file: Path) -> Iterator[None]:
    """Lock a file for this process while the context is active. Create the folder (0700) if needed.

    Raises `OSError`.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = open_private(file, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
