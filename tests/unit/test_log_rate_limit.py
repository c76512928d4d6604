"""The rate limit for repeated faults, tested with replayed log records and a fake clock."""

from __future__ import annotations

import logging
from typing import Any

from nvision_hub.logs.rate_limit_filter import MAX_FAULTS, REPEAT_INTERVAL_S, RepeatCounter


def record(text: str, *values: Any, level: int = logging.WARNING, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("nvision_hub.test", level, __file__, 1, text, values, None)
    vars(made).update(more)
    return made


def due(counter: RepeatCounter, now: float) -> list[str]:
    return [each.getMessage() for each in counter.due(now)]


def test_the_first_record_passes_and_later_ones_are_counted_once_per_second() -> None:
    counter = RepeatCounter()
    admitted = [counter.admit(record("packet %d is broken", number), number / 100) for number in range(50)]
    assert admitted == [True, *[False] * 49]
    assert counter.due_at() == REPEAT_INTERVAL_S
    assert due(counter, 0.99) == []
    assert due(counter, 1.0) == ["packet 49 is broken (48 more like this)"]
    assert due(counter, 1.5) == []
    assert counter.due_at() is None


def test_the_numbers_add_up_over_a_long_burst() -> None:
    counter, lines = RepeatCounter(), list[str]()
    for number in range(1000):
        now = number / 100
        lines += due(counter, now)
        if counter.admit(record("broken"), now):
            lines.append("broken")
    lines += [each.getMessage() for each in counter.due(10.0, early=True)]
    more = sum(int(line.split("(")[1].split()[0]) for line in lines if "(" in line)
    assert len(lines) + more == 1000
    assert len(lines) <= 12


def test_a_record_after_a_quiet_second_passes() -> None:
    counter = RepeatCounter()
    assert counter.admit(record("broken"), 0.0)
    assert counter.admit(record("broken"), REPEAT_INTERVAL_S)
    assert not counter.admit(record("broken"), REPEAT_INTERVAL_S + 0.5)
    assert [each.getMessage() for each in counter.due(2.0)] == ["broken"], "a single record has no count"


def test_info_records_are_never_limited() -> None:
    counter = RepeatCounter()
    assert all(counter.admit(record("%s", "streaming", level=logging.INFO), 0.0) for _ in range(10))


def test_faults_of_different_subjects_are_limited_separately() -> None:
    counter = RepeatCounter()
    assert counter.admit(record("%s is killed: %s", "camera:a", "silent"), 0.0)
    assert counter.admit(record("%s is killed: %s", "camera:b", "silent"), 0.0)
    assert not counter.admit(record("%s is killed: %s", "camera:b", "late"), 0.0)
    assert counter.admit(record("%s is killed: %s", "camera:b", "late", level=logging.ERROR), 0.0)


def test_the_fault_attribute_joins_records_of_different_subjects() -> None:
    counter = RepeatCounter()
    tried = [record("%s could not be started", f"camera:{number}", fault="no room: 24") for number in range(13)]
    assert [counter.admit(each, 0.0) for each in tried] == [True, *[False] * 12]
    assert due(counter, 1.0) == ["camera:12 could not be started (11 more like this)"]


def test_the_number_of_known_faults_is_bounded() -> None:
    counter = RepeatCounter()
    for number in range(2 * MAX_FAULTS):
        assert counter.admit(record("%s is odd", str(number)), 0.0)
    assert counter.admit(record("%s is odd", str(2 * MAX_FAULTS)), 0.0), "further faults pass without a limit"
    assert not counter.admit(record("%s is odd", "1"), 0.5)
    assert counter.admit(record("%s is odd", "new"), 5.0), "old faults are removed"
    assert not counter.admit(record("%s is odd", "new"), 5.5)
