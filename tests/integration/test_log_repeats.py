"""A child that says the same thousands of times: told once a second, and nothing lost but the lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fleet import Fleet

COUNT = 3000
TOLD = re.compile(r"packet \d+ is broken(?: \((\d+) more like this\))?")


def told(fleet: Fleet) -> list[int]:
    """How many records each line about it stands for."""
    found = (TOLD.fullmatch(line) for line in fleet.lines("a"))
    return [1 + int(match[1] or 0) for match in found if match is not None]


def test_a_fault_that_repeats_is_told_once_a_second(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": ("complains", COUNT), "b": "steady"})
    fleet.wait_until(lambda: sum(told(fleet)) == COUNT)
    lines = len(told(fleet))
    assert lines < COUNT / 100, "one at once, then one for each second that it took"
    fleet.ask_to_stop()
    assert sum(told(fleet)) == COUNT + 2, "what was held back at the end is told too"
    assert "are lost" not in fleet.log()
