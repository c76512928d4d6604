"""Resources of this process: open descriptors, and the errors that occur at a limit."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Fix for each error that can prevent the start of a process.
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
    """Return the open descriptors of this process. The listing needs a free one; otherwise it raises `OSError`."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        # The descriptor of this listing, or of an ended log thread, is already closed.
        with contextlib.suppress(OSError):
            found[int(entry.name)] = identity(int(entry.name))
    return found


class DescriptorReserve:
    """Descriptors reserved for work that must succeed even if this process reaches its limit of open files."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._descriptors: list[int] = []

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Release the reserve while the context is active. Afterward, refill it as far as the limit permits."""
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
    """Close the pipes that a failed fork left open, because multiprocessing does not close them."""
    for descriptor, known in open_descriptors().items():
        if before.get(descriptor) != known and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)


def cause_and_fix(error: OSError) -> str:
    """Return the cause and the known fix, such as `Too many open files; raise the limit of open files (...)`."""
    fix = FIXES.get(error.errno or 0)
    return f"{error.strerror}; {fix}" if fix else f"{error.strerror}"
