"""What this process takes of its machine, as the kernel counts it."""

from __future__ import annotations

import resource
from pathlib import Path


def cpu_s() -> float:
    """CPU time so far, user and system, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def private_memory_bytes() -> int:
    """What this process alone keeps in memory: pages shared with the supervisor's modules do not count."""
    fields = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in fields if line.startswith(("Private_Clean", "Private_Dirty")))
