"""Rate limit for the log records of repeated faults.

The first record of a fault passes immediately. After that, one record per second passes, with the number of records
that the filter held back, so no record is unaccounted for. Without this limit, a camera that sends only corrupt packets
would log thousands of identical lines per second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

REPEAT_INTERVAL_S: Final = 1.0
MAX_FAULTS: Final = 200  # records of additional faults pass without a limit


@dataclass(slots=True)
class _Fault:
    emitted_at: float
    last: logging.LogRecord | None = None  # newest held record; None if there is no held record
    held: int = 0  # number of held records

    def is_recent(self, now: float) -> bool:
        return self.held > 0 or now - self.emitted_at < REPEAT_INTERVAL_S


class RepeatCounter:
    """Counter that decides when to emit which records. `now` is in monotonic seconds. Performs no I/O."""

    def __init__(self) -> None:
        self._faults: dict[Hashable, _Fault] = {}

    def admit(self, record: logging.LogRecord, now: float) -> bool:
        """Return whether to emit this record now. If not, hold the record until its fault is due."""
        if record.levelno < logging.WARNING:
            return True
        key = fault_key(record)
        fault = self._faults.get(key)
        if fault is not None and fault.is_recent(now):
            fault.last, fault.held = record, fault.held + 1
            return False
        if fault is None and len(self._faults) >= MAX_FAULTS:
            self._faults = {key: fault for key, fault in self._faults.items() if fault.is_recent(now)}
        if len(self._faults) < MAX_FAULTS:
            self._faults[key] = _Fault(emitted_at=now)
        return True

    def due_at(self) -> float | None:
        """Return when the next held record is due; None if there is no held record."""
        return min(
            (fault.emitted_at + REPEAT_INTERVAL_S for fault in self._faults.values() if fault.held), default=None
        )

    def due(self, now: float, *, early: bool = False) -> list[logging.LogRecord]:
        """Return the newest held record of each due fault, with the number of the fault's other held records.

        With `early`, include the faults that are not due yet.
        """
        records = []
        for fault in self._faults.values():
            if fault.last is not None and (early or now - fault.emitted_at >= REPEAT_INTERVAL_S):
                record = fault.last
                if fault.held > 1:
                    record = logging.makeLogRecord(vars(record))
                    record.msg, record.args = f"{record.getMessage()} ({fault.held - 1} more like this)", None
                records.append(record)
                fault.emitted_at, fault.last, fault.held = now, None, 0
        return records


def fault_key(record: logging.LogRecord) -> Hashable:
    """Return a key that all records of one fault share: the message format without its values.

    If the message format begins with a value, as in `%s ended`, the key also includes that value. If many subjects
    share one fault, the record's `fault` attribute is the key instead.
    """
    shared = getattr(record, "fault", None)
    if shared is not None:
        return record.name, shared
    text = str(record.msg)
    subject = record.args[0] if text.startswith("%s") and isinstance(record.args, tuple) and record.args else None
    return record.name, record.levelno, text, str(subject)


class RateLimitFilter(logging.Filter):
    """Filter that holds back records of repeated faults and emits them through `handler` when they are due.

    Records of other processes pass unchanged, because each process has its own filter.
    """

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler
        self._repeats = RepeatCounter()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.process != os.getpid():
            return True
        with self._lock:
            is_admitted = self._repeats.admit(record, time.monotonic())
            if not is_admitted and self._timer is None:
                self._start_timer()
        return is_admitted

    def flush(self, *, early: bool = True) -> None:
        """Emit all held records or, without `early`, only the records that are due."""
        with self._lock:
            due = self._repeats.due(time.monotonic(), early=early)
        for record in due:  # bypass the handler's filters, because they include this filter
            self._handler.acquire()
            try:
                self._handler.emit(record)
            finally:
                self._handler.release()

    def _start_timer(self) -> None:
        due_at, self._timer = self._repeats.due_at(), None
        if due_at is None:
            return
        timer = threading.Timer(max(0.0, due_at - time.monotonic()), self._on_timer)
        timer.daemon = True
        with contextlib.suppress(RuntimeError):  # if the thread cannot start, the next timer or flush emits the records
            timer.start()
            self._timer = timer

    def _on_timer(self) -> None:
        self.flush(early=False)
        with self._lock:
            self._start_timer()
