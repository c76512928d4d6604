"""Resources of this process: its open descriptors, and the errors of a process that reaches a limit."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# How to fix each error that can prevent the start of a process.
FIXES: Final = {
    errno.EMFILE: "raise the limit of open files (`ulimit -n`, or LimitNOFILE= of the hub's service)",
    errno.ENFILE: "raise the machine's limit of open files (`sysctl fs.file-max`)",
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`, or TasksMax= of the hub's service)",
    errno.ENOMEM: "give the machine more memory, or run fewer cameras",
}

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


class DescriptorReserve:
    """Descriptors kept for work that must succeed even if this process has reached its limit of open files."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._descriptors: list[int] = []

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Release the reserve while the context is active. Afterwards, fill it as far as the limit permits."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                while len(self._descriptors) < self._count:
                    self._descriptors.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def close_pipes_made_since(before: Descriptors) -> None:
    """Close the pipes of a failed fork, because multiprocessing does not close them."""
    for descriptor, known in open_descriptors().items():
        if before.get(descriptor) != known and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)


def cause_and_fix(error: OSError) -> str:
    """Return the cause and, if it is known, the fix: `Too many open files; raise the limit of open files (...)`."""
    fix = FIXES.get(error.errno or 0)
    return f"{error.strerror}; {fix}" if fix else f"{error.strerror}"
