"""Process statistics, compared with psutil, and the statistics of a program that exits."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime import process_stats

if TYPE_CHECKING:
    from collections.abc import Iterator

HELD_BYTES = 50_000_000


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    """Start a program that allocates memory, uses some CPU time and then waits."""
    code = f"held = bytearray(b'x') * {HELD_BYTES}; sum(range(3_000_000)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


def cpu_and_memory(meter: Meter) -> tuple[float, float]:
    return meter.value(catalogue.WORKER_CPU_SECONDS_TOTAL), meter.gauge_value(catalogue.WORKER_MEMORY_BYTES) or 0.0


def test_process_stats_match_psutil(program: subprocess.Popen[str]) -> None:
    for pid in (None, program.pid):
        process = psutil.Process(pid or os.getpid())
        times = process.cpu_times()
        assert process_stats.cpu_s(pid) == pytest.approx(times.user + times.system, abs=0.5)
        assert process_stats.private_memory_bytes(pid) == pytest.approx(process.memory_full_info().uss, rel=0.1)
    assert process_stats.private_memory_bytes(program.pid) > HELD_BYTES


def test_a_program_counts_with_the_process_that_runs_it(program: subprocess.Popen[str]) -> None:
    alone, both = Meter(), Meter()
    process_stats.ProcessStats(alone).update()
    keeping = process_stats.ProcessStats(both, program.pid)
    keeping.update()
    assert cpu_and_memory(both)[0] > cpu_and_memory(alone)[0]
    assert cpu_and_memory(both)[1] > cpu_and_memory(alone)[1] + HELD_BYTES
    before = cpu_and_memory(both)
    program.kill()
    program.wait()
    keeping.update()
    assert cpu_and_memory(both) == before, "a counter must not go back"


def test_memory_is_read_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int | None] = []

    def reading(pid: int | None) -> int:
        read.append(pid)
        return 1

    monkeypatch.setattr(process_stats, "private_memory_bytes", reading)
    noting = process_stats.ProcessStats(Meter())
    for _ in range(5):
        noting.update()
    assert read == [None]
