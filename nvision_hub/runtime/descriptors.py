"""Open descriptors of this process, and the descriptors that a failed fork leaves open."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

Descriptors = dict[int, tuple[int, int]]  # descriptor number -> device and inode of the open file


def identity(descriptor: int) -> tuple[int, int]:
    """Return the device and the inode of an open file. Raises `OSError` if the descriptor is closed."""
    known = os.fstat(descriptor)
    return known.st_dev, known.st_ino


def open_descriptors() -> Descriptors:
    """Return the open descriptors of this process. Raises `OSError` if none is free, because the listing needs one."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this listing or of an ended log thread is closed by now
            found[int(entry.name)] = identity(int(entry.name))
    return found


def close_pipes_made_since(before: Descriptors) -> None:
    """Close the pipes of a failed fork, because multiprocessing does not close them."""
    for descriptor, known in open_descriptors().items():
        if before.get(descriptor) != known and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)
