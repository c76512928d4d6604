"""Faults that repeat: the first is told at once, then one a second that says how many more there were.

A camera whose every packet is broken would otherwise write thousands of equal lines a second, each of which somebody
has to carry, store and read past. Nothing is lost but the lines: the numbers told add up.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

TOLD_EVERY_S: Final = 1.0
FAULTS_KNOWN_MAX: Final = 200  # beyond them, records pass as they are


@dataclass(slots=True)
class _Fault:
    told_at: float
    last: logging.LogRecord | None = None  # None where none has come since
    held: int = 0


class Repeats:
    """Which records to tell, and when. Pure: `now` is monotonic seconds, and nobody waits here."""

    def __init__(self) -> None:
        self._faults: dict[Hashable, _Fault] = {}

    def admit(self, record: logging.LogRecord, now: float) -> bool:
        """Whether this record is to be told now; otherwise it is counted, and its fault falls `due`."""
        if record.levelno < logging.WARNING:
            return True
        key = same_fault(record)
        fault = self._faults.get(key)
        if fault is not None and (fault.held or now - fault.told_at < TOLD_EVERY_S):
            fault.last, fault.held = record, fault.held + 1
            return False
        if fault is None and len(self._faults) >= FAULTS_KNOWN_MAX:
            self._forget(now)
        if len(self._faults) < FAULTS_KNOWN_MAX:
            self._faults[key] = _Fault(told_at=now)
        return True

    def due_at(self) -> float | None:
        """When the next fault is to be told again; None where nothing is held back."""
        return min((fault.told_at + TOLD_EVERY_S for fault in self._faults.values() if fault.held), default=None)

    def due(self, now: float, *, early: bool = False) -> list[logging.LogRecord]:
        """What is to be told by now, or all that is held where it may be `early`.

        Of each fault its last record, with how many more were like it.
        """
        told = []
        for fault in self._faults.values():
            if fault.last is not None and (early or now - fault.told_at >= TOLD_EVERY_S):
                told.append(_counted(fault.last, fault.held - 1))
                fault.told_at, fault.last, fault.held = now, None, 0
        self._forget(now)
        return told

    def _forget(self, now: float) -> None:
        self._faults = {
            key: fault for key, fault in self._faults.items() if fault.held or now - fault.told_at < TOLD_EVERY_S
        }


def same_fault(record: logging.LogRecord) -> Hashable:
    """What two records of one fault have in common.

    Their text but for the values in it. A text that begins with a value, as `%s ended`, is about that value: another
    one's is another fault, unless the record's `fault` says that all are hit alike.
    """
    shared = getattr(record, "fault", None)
    if shared is not None:
        return record.name, shared
    text = str(record.msg)
    subject = record.args[0] if text.startswith("%s") and isinstance(record.args, tuple) and record.args else None
    return record.name, record.levelno, text, str(subject)


def _counted(record: logging.LogRecord, more: int) -> logging.LogRecord:
    if not more:
        return record
    copy = logging.makeLogRecord(vars(record))
    copy.msg, copy.args = f"{record.getMessage()} ({more} more like this)", None
    return copy


class OncePerSecond(logging.Filter):
    """Holds a process's own repeated faults back, and tells them through `tell` when they are due.

    Records of other processes pass: they come through a filter of their own.
    """

    def __init__(self, tell: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._tell = tell
        self._repeats = Repeats()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be told now."""
        if record.process != os.getpid():
            return True
        with self._lock:
            admitted = self._repeats.admit(record, time.monotonic())
            if not admitted and self._timer is None:
                self._arm()
        return admitted

    def flush(self) -> None:
        """Tell at once all that is held back."""
        self._tell_due(early=True)

    def _arm(self) -> None:
        due_at = self._repeats.due_at()
        self._timer = None
        if due_at is None:
            return
        timer = threading.Timer(max(0.0, due_at - time.monotonic()), self._ring)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no thread is to be had: told with the next one that comes, or at the end
            return
        self._timer = timer

    def _ring(self) -> None:
        self._tell_due()
        with self._lock:
            self._arm()

    def _tell_due(self, *, early: bool = False) -> None:
        with self._lock:
            due = self._repeats.due(time.monotonic(), early=early)
        for record in due:
            self._tell(record)
