"""Limits on the resources of a process with untrusted input: a camera's worker or the gateway."""

from __future__ import annotations

import mmap
import re
import resource
from pathlib import Path
from typing import Final

# 8192 x 8192 pixels, more than any camera sends. A larger frame would only exhaust memory in the hub or the service.
MAX_PIXELS: Final = 2**26
# In addition to the memory in use at the call of `cap_memory`. A decoder of an 8K stream holds up to 800 MB of frames.
_MAX_MEMORY_BYTES: Final = 2**30
_MIN_IDLE_BYTES: Final = _MAX_MEMORY_BYTES // 4 * 3  # minimum memory that must be available while no stream is open
_RESERVE_BYTES: Final = 2**25  # for a thread's stack and arenas, and for a few frames


def cap_memory() -> None:
    """Limit this process to 1 GiB more memory than it uses now. Hostile input then affects only this process.

    The limit counts private data (RLIMIT_DATA), not address space, so shared mappings cost nothing. A lower limit that
    is already set stays in effect.
    """
    data_kib = re.search(r"^VmData:\s*(\d+)", Path("/proc/self/status").read_text(errors="replace"), re.MULTILINE)
    limit = _MAX_MEMORY_BYTES + (int(data_kib[1]) * 1024 if data_kib else 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    lower = [each for each in (soft, hard) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *lower]), hard))


def check_memory(*, for_any_camera: bool = False) -> None:
    """Raise `MemoryError` if this process is almost out of memory.

    With `for_any_camera`, raise `MemoryError` if the remaining memory is too small to open any stream. Call this
    function before connecting, and while no frame arrives. Without memory, FFmpeg's decoders return neither a frame nor
    an error, and `threading` waits indefinitely for a thread that cannot start.
    """
    needed = _MIN_IDLE_BYTES if for_any_camera else _RESERVE_BYTES
    try:
        _private(needed).close()
    except OSError as error:
        raise MemoryError(
            f"less than {needed >> 20} MiB of this process's memory limit is left: the process leaks memory, or a "
            "limit set outside the hub is too low; raise that limit"
        ) from error


class MemoryReserve:
    """Memory reserved for a worker's exit, which starts threads and writes a traceback.

    The worker never writes to the reserve, so the reserve occupies no physical memory.
    """

    def __init__(self) -> None:
        self._reserved = _private(_RESERVE_BYTES)

    def release(self) -> None:
        """Free the reserved memory. Any thread may call this method any number of times."""
        self._reserved.close()


def _private(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
