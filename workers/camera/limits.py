"""What one camera may cost at most, whatever it sends: nobody here vouches for what a device on the network says."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

# 8192 x 8192, beyond any camera; a picture whose header claims more is there to eat memory, here or at the service.
MAX_PIXELS: Final = 2**26
# Beyond what the process has when it starts. An 8K stream holds 16 pictures of 50 MB; no other comes near.
_MEMORY_MAX_BYTES: Final = 2**30


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


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
