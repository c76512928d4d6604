"""The rate limit for log lines, with a child that logs the same fault thousands of times."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nvision_hub.logs.pipe import MAX_RECORDS_WAITING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fleet import Fleet

COUNT = 3000
LINE = re.compile(r"packet \d+ is broken(?: \((\d+) more like this\))?")


def counts(fleet: Fleet) -> list[int]:
    """Return the number of records that each line stands for."""
    found = (LINE.fullmatch(line) for line in fleet.lines("a"))
    return [1 + int(match[1] or 0) for match in found if match is not None]


def test_a_repeated_fault_is_logged_once_per_second(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": ("repeats_a_fault", COUNT), "b": "steady"})
    fleet.wait_until(lambda: sum(counts(fleet)) == COUNT)
    lines = len(counts(fleet))
    assert lines < COUNT / 100, "the first record appears immediately, then one record per second"
    fleet.stop_with()
    assert sum(counts(fleet)) == COUNT + 2, "the end must emit the held records"
    assert "are lost" not in fleet.log()


def test_records_that_the_supervisor_cannot_read_in_time_are_counted(start_fleet: Callable[..., Fleet]) -> None:
    count = 20_000
    fleet = start_fleet({"a": ("logs_at_full_speed", count)}, heartbeat_timeout_s=600.0)
    fleet.wait_until(lambda: "the end" in fleet.lines("a"))
    lines = fleet.lines("a")
    arrived = sum(line.startswith("number ") for line in lines)
    lost = sum(int(line.split()[0]) for line in lines if "log records were lost" in line)
    assert arrived + lost == count
    assert arrived >= MAX_RECORDS_WAITING
