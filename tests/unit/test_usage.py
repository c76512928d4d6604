"""What processes take, against what psutil says of them, and a program that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from nvision_hub import usage
from nvision_hub.status import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

HELD_BYTES = 50_000_000


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    """It holds memory, has worked a little, and waits."""
    code = f"held = bytearray(b'x') * {HELD_BYTES}; sum(range(3_000_000)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


def told(meter: Meter) -> tuple[float, float]:
    return meter.value("worker_cpu_seconds_total"), meter.gauge_value("worker_memory_bytes") or 0.0


def test_it_is_what_others_say(program: subprocess.Popen[str]) -> None:
    for pid in (None, program.pid):
        process = psutil.Process(pid or os.getpid())
        times = process.cpu_times()
        assert usage.cpu_s(pid) == pytest.approx(times.user + times.system, abs=0.5)
        assert usage.private_memory_bytes(pid) == pytest.approx(process.memory_full_info().uss, rel=0.1)
    assert usage.private_memory_bytes(program.pid) > HELD_BYTES


def test_a_program_counts_with_the_process_that_keeps_it(program: subprocess.Popen[str]) -> None:
    alone, both = Meter(), Meter()
    usage.Usage(alone).note()
    keeping = usage.Usage(both, program.pid)
    keeping.note()
    assert told(both)[0] > told(alone)[0]
    assert told(both)[1] > told(alone)[1] + HELD_BYTES
    before = told(both)
    program.kill()
    program.wait()
    keeping.note()
    assert told(both) == before, "a counter must not go back"


def test_memory_is_read_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int | None] = []

    def reading(pid: int | None) -> int:
        read.append(pid)
        return 1

    monkeypatch.setattr(usage, "private_memory_bytes", reading)
    noting = usage.Usage(Meter())
    for _ in range(5):
        noting.note()
    assert read == [None]
