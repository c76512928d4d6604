"""Memory files: values that one process passes to another through a third process that keeps only a descriptor.

A forked process inherits a copy of its parent's memory. The supervisor therefore keeps no secret in its memory. It
keeps only the descriptors of memory files, and closes them in each child that must not read the files.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final, Self

MAX_BYTES: Final = 64 * 1024 * 1024

_CHANGES: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class MemoryFile:
    """Owner of the descriptor of a file in memory (memfd_create(2)) that no process can change."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._owner = os.getpid()

    @classmethod
    def create(cls, content: bytes) -> Self:
        """Return a new memory file. Raises `OSError` if no memory or descriptor is available."""
        created = cls(os.memfd_create("nvision-hub", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[os.write(created.fileno(), remaining) :]
        fcntl.fcntl(created.fileno(), fcntl.F_ADD_SEALS, _CHANGES)
        return created

    def fileno(self) -> int:
        return self._descriptor

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """Return the content. Raises `ValueError` if it is longer than `max_bytes` or if a process could change it."""
        known = os.fstat(self._descriptor)
        if not _is_sealed(self._descriptor) or known.st_size > max_bytes:
            raise ValueError("not a memory file of a permitted size")
        content = b""
        while chunk := os.pread(self._descriptor, known.st_size, len(content)):
            content += chunk
        return content

    def __del__(self) -> None:
        # A forked child has a copy of this object but closes its inherited descriptors by number. The number may
        # therefore belong to another file of the child.
        if os.getpid() == self._owner:
            os.close(self._descriptor)


def _is_sealed(descriptor: int) -> bool:
    """Return whether a descriptor belongs to a sealed memory file. Reading any other file could block."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _CHANGES == _CHANGES
    except OSError:
        return False
