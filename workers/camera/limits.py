"""What one camera may cost at most, whatever it sends: nobody here vouches for what a device on the network says."""

from __future__ import annotations

import mmap
import resource
from pathlib import Path
from typing import Final

# 8192 x 8192, beyond any camera; a picture whose header claims more is there to eat memory, here or at the service.
MAX_PIXELS: Final = 2**26
# Beyond what the process has when it starts. An 8K stream holds 16 pictures of 50 MB; no other comes near.
_MEMORY_MAX_BYTES: Final = 2**30
_CAMERA_BYTES: Final = _MEMORY_MAX_BYTES // 4 * 3  # what is left of that when no stream is open, at least
_ROOM_BYTES: Final = 2**25  # a thread's stack, the arenas of what it does, and some pictures


def cap_memory() -> None:
    """Refuse this process more than 1 GiB beyond what it has now: only this camera then feels what it sends.

    Counts private data (RLIMIT_DATA), not address space: what is mapped and shared costs nothing.
    """
    had_bytes = _data_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = had_bytes + _MEMORY_MAX_BYTES
    for given in (soft, hard):
        if given != resource.RLIM_INFINITY:
            wanted = min(wanted, given)  # somebody has set a narrower one
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def check_memory(*, for_any_camera: bool = False) -> None:
    """Raise `MemoryError` where this process can hardly get more, or, `for_any_camera`, too little to open one anew.

    To be asked before a camera is dialled, and when it shows nothing. FFmpeg's decoders then give no picture and no
    error, and `threading` waits for ever for a thread that has found no memory to begin with.
    """
    wanted = _CAMERA_BYTES if for_any_camera else _ROOM_BYTES
    try:
        _private(wanted).close()
    except OSError as error:
        raise MemoryError(
            f"less than {wanted >> 20} MiB are left of what this process may have: it leaks, or a limit that was set "
            "from outside is narrow"
        ) from error


class Reserve:
    """Memory for a worker's end, which starts threads and writes a traceback. Never touched, so it costs none."""

    def __init__(self) -> None:
        self._held = _private(_ROOM_BYTES)

    def release(self) -> None:
        """Give it back; as often as one likes, from any thread."""
        self._held.close()


def _private(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
