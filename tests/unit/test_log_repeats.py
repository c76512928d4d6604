"""Repeated faults, counted and told once a second: histories of records replayed with a clock of the test's."""

from __future__ import annotations

import logging
from typing import Any

from nvision_hub.logs.repeats import FAULTS_KNOWN_MAX, TOLD_EVERY_S, Repeats


def record(text: str, *values: Any, level: int = logging.WARNING, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("nvision_hub.test", level, __file__, 1, text, values, None)
    vars(made).update(more)
    return made


def told(repeats: Repeats, now: float) -> list[str]:
    return [each.getMessage() for each in repeats.due(now)]


def test_the_first_is_told_at_once_and_then_one_a_second_with_the_number_of_the_others() -> None:
    repeats = Repeats()
    admitted = [repeats.admit(record("packet %d is broken", number), number / 100) for number in range(50)]
    assert admitted == [True, *[False] * 49]
    assert repeats.due_at() == TOLD_EVERY_S
    assert told(repeats, 0.99) == []
    assert told(repeats, 1.0) == ["packet 49 is broken (48 more like this)"]
    assert told(repeats, 1.5) == []
    assert repeats.due_at() is None


def test_the_numbers_add_up_over_a_long_burst() -> None:
    repeats, lines = Repeats(), list[str]()
    for number in range(1000):
        now = number / 100
        lines += told(repeats, now)
        if repeats.admit(record("broken"), now):
            lines.append("broken")
    lines += [each.getMessage() for each in repeats.due(10.0, early=True)]
    more = sum(int(line.split("(")[1].split()[0]) for line in lines if "(" in line)
    assert len(lines) + more == 1000
    assert len(lines) <= 12


def test_one_that_comes_again_after_a_quiet_second_is_told_at_once() -> None:
    repeats = Repeats()
    assert repeats.admit(record("broken"), 0.0)
    assert repeats.admit(record("broken"), TOLD_EVERY_S)
    assert not repeats.admit(record("broken"), TOLD_EVERY_S + 0.5)
    assert [each.getMessage() for each in repeats.due(2.0)] == ["broken"], "a single one is told as it is"


def test_what_is_no_fault_is_never_held_back() -> None:
    repeats = Repeats()
    assert all(repeats.admit(record("%s", "streaming", level=logging.INFO), 0.0) for _ in range(10))


def test_faults_of_different_subjects_are_different() -> None:
    repeats = Repeats()
    assert repeats.admit(record("%s is killed: %s", "camera:a", "silent"), 0.0)
    assert repeats.admit(record("%s is killed: %s", "camera:b", "silent"), 0.0)
    assert not repeats.admit(record("%s is killed: %s", "camera:b", "late"), 0.0)
    assert repeats.admit(record("%s is killed: %s", "camera:b", "late", level=logging.ERROR), 0.0)


def test_one_fault_of_the_machine_is_one_whomever_it_hits() -> None:
    repeats = Repeats()
    tried = [record("%s could not be started", f"camera:{number}", fault="no room: 24") for number in range(13)]
    assert [repeats.admit(each, 0.0) for each in tried] == [True, *[False] * 12]
    assert told(repeats, 1.0) == ["camera:12 could not be started (11 more like this)"]


def test_it_remembers_a_bounded_number_of_faults() -> None:
    repeats = Repeats()
    for number in range(2 * FAULTS_KNOWN_MAX):
        assert repeats.admit(record("%s is odd", str(number)), 0.0)
    assert repeats.admit(record("%s is odd", str(2 * FAULTS_KNOWN_MAX)), 0.0), "beyond them all pass"
    assert not repeats.admit(record("%s is odd", "1"), 0.5)
    assert repeats.admit(record("%s is odd", "new"), 5.0), "old ones make room"
    assert not repeats.admit(record("%s is odd", "new"), 5.5)
