"""What a process takes of its machine, as the kernel counts it: its own part and that of a program it keeps."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nvision_hub.status import Meter

MEMORY_EVERY_S: Final = 10.0  # the kernel walks all pages for it
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int | None = None) -> float:
    """CPU time so far, user and system, all threads; of this process where `pid` is None.

    Raises `OSError` where there is no such process.
    """
    if pid is None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime
    # proc_pid_stat(5): utime and stime are the 14th and 15th field; the second may hold spaces and brackets.
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_PER_S


def private_memory_bytes(pid: int | None = None) -> int:
    """What a process alone keeps in memory: pages shared with the supervisor's modules do not count.

    Of this process where `pid` is None. Raises `OSError` where the kernel does not tell.
    """
    fields = Path(f"/proc/{pid or 'self'}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in fields if line.startswith(("Private_Clean", "Private_Dirty")))


class Usage:
    """Keeps a meter's CPU time and memory up to date; `program` is the pid of a program that counts with us."""

    def __init__(self, meter: Meter, program: int | None = None) -> None:
        self._meter = meter
        self._pids = (None,) if program is None else (None, program)
        self._memory_read = float("-inf")

    def note(self) -> None:
        """To be called with each report. What cannot be read, as of a program that has ended, stays as it was."""
        now = time.monotonic()
        with contextlib.suppress(OSError):
            self._meter.reached("worker_cpu_seconds_total", sum(cpu_s(pid) for pid in self._pids))
        if now - self._memory_read >= MEMORY_EVERY_S:
            self._memory_read = now
            with contextlib.suppress(OSError):
                self._meter.gauge("worker_memory_bytes", sum(private_memory_bytes(pid) for pid in self._pids))
