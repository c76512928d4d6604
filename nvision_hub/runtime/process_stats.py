"""CPU time and private memory of a process, as measured by the kernel."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nvision_hub.metrics import catalogue

if TYPE_CHECKING:
    from nvision_hub.metrics.meter import Meter

MEMORY_INTERVAL_S: Final = 10.0  # long, because the kernel walks all pages of the process for each read
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int | None = None) -> float:
    """Return the CPU seconds (user and system) of a process. `pid=None` means this process. Raises `OSError`."""
    if pid is None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime
    # proc_pid_stat(5): utime and stime are fields 14 and 15. Field 2, the name, may contain spaces and parentheses.
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_PER_S


def private_memory_bytes(pid: int | None = None) -> int:
    """Return the private memory of a process. `pid=None` means this process. Raises `OSError`."""
    fields = Path(f"/proc/{pid or 'self'}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in fields if line.startswith(("Private_Clean", "Private_Dirty")))


class ProcessStats:
    """Recorder for the CPU time and memory of this process and, if `program` is given, of the child with that pid."""

    def __init__(self, meter: Meter, program: int | None = None) -> None:
        self._meter = meter
        self._pids = (None,) if program is None else (None, program)
        self._memory_read = float("-inf")

    def update(self) -> None:
        """Update the meter. If reading fails, for example because the child has ended, keep the last value."""
        now = time.monotonic()
        with contextlib.suppress(OSError):
            self._meter.set_counter(catalogue.WORKER_CPU_SECONDS_TOTAL, sum(cpu_s(pid) for pid in self._pids))
        if now - self._memory_read >= MEMORY_INTERVAL_S:
            self._memory_read = now
            with contextlib.suppress(OSError):
                self._meter.set_gauge(
                    catalogue.WORKER_MEMORY_BYTES, sum(private_memory_bytes(pid) for pid in self._pids)
                )
