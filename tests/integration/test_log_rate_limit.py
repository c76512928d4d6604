"""The rate limit for log lines, with a child that logs the same fault thousands of times."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
