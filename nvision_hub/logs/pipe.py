"""Pipe from each child process, which carries the child's log records to the supervisor's handlers.

The pipe is the queue of `multiprocessing_logging.MultiProcessingHandler`. A subclass changes the following points, for
which the library has no options:

- One handler per child. A process that dies while it holds the queue's lock never releases the lock. With one queue for
  all children, all logging stopped after 10 to 80 `kill -9` under load (measured). With one pipe per child, the death
  of a child ends only its own pipe.
- Records as lines of JSON (`record_codec`) instead of pickles, because a pickle can run code in the supervisor.
- Locks that belong to the child (`enter_child`). The queue's own locks are in memory that later children also inherit.
- A reading thread that blocks (`_receive`) and ends when the child's pipe ends. The library's thread checks five times
  a second whether the handler was closed. With 100 children, the checks cost 5 % of a core (measured).
- A limit on the CPU time of the reading thread, so that a child cannot keep the supervisor busy with records.
- A limit on the number of records (`_send`), so that a blocked reader does not exhaust the child's memory.
- A rate limit in the child, so that repeated records do not pass through the pipe.
"""

# ruff: noqa: SLF001 - the ends of a multiprocessing.Queue have no public name

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import queue
import threading
import time
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Final

from multiprocessing_logging import MultiProcessingHandler

from nvision_hub.logs.rate_limit_filter import RateLimitFilter
from nvision_hub.logs.record_codec import MAX_LINE_BYTES, RecordError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("nvision_hub.logs")

MAX_RECORDS_WAITING: Final = 1000  # per child
CLOSE_TIMEOUT_S: Final = 0.25
# Share of a core that the supervisor may spend on the records of one child after a burst. Redacting one message of the
# maximum length may need 40 ms (measured).
CPU_SHARE: Final = 0.1
CPU_BURST_S: Final = 0.5
REPORT_INTERVAL_S: Final = 1.0  # minimum time between two warnings about invalid records of a child
_CHUNK_BYTES: Final = 64 * 1024
_BEFORE_QUEUES_CLOSE: Final = 20  # multiprocessing closes queues at priority 10; higher priorities run first


class _SupervisorHandlers(logging.Handler):
    """Handler that passes a child's records to the handlers of the supervisor."""

    def emit(self, record: logging.LogRecord) -> None:
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


class ChildLog(MultiProcessingHandler):  # type: ignore[misc]  # the library has no types
    """Log pipe of one child, created before the fork. Raises `OSError` if no thread or descriptor is available.

    A thread in the supervisor reads the pipe. Python 3.12 and later warn about a fork while threads run, but this fork
    is safe: the child uses nothing that a thread may hold at the moment of the fork. The child gets new handlers and
    streams (`enter_child`, `runtime/process.py`). The logging module and malloc reinitialize their locks after a fork.
    The child never uses the queues of its siblings.
    """

    def __init__(self, name: str) -> None:
        self._process = name
        self._pid: int | None = None
        self._has_forked = threading.Event()
        self._lost = 0
        self._invalid = 0  # number of invalid records since the last report
        self._reported_at = -REPORT_INTERVAL_S
        try:
            super().__init__(f"log {name}", sub_handler=_SupervisorHandlers())
        except RuntimeError as error:  # raised if the thread cannot start
            raise OSError(errno.EAGAIN, "no thread for a child's log") from error
        self._rate_limit = RateLimitFilter(self)
        self.filters = [self._rate_limit]  # a new list, because the library shares its list with `sub_handler`

    @property
    def descriptors(self) -> tuple[int, int]:
        """Descriptors of both ends of the pipe. `enter_child` closes one of them and `forked` the other."""
        return self.queue._reader.fileno(), self.queue._writer.fileno()

    def enter_child(self) -> None:
        """Make this pipe the only log handler of the child. Runs in the child."""
        self.queue._reader.close()
        self.queue._wlock = threading.Lock()
        self.queue._sem = threading.BoundedSemaphore(MAX_RECORDS_WAITING)
        self.queue._send_bytes = self._write
        logging.getLogger().handlers = [self]
        # Flush before the queue closes. A forked child does not run the functions registered with `atexit`.
        Finalize(self, self.flush, exitpriority=_BEFORE_QUEUES_CLOSE)

    def forked(self, pid: int | None = None) -> None:
        """Close the write end in the supervisor after the fork. The reading thread then ends when the child dies.

        `pid` is None if the fork has failed.
        """
        self._pid = pid
        self._has_forked.set()
        self.queue._writer.close()

    def flush(self) -> None:
        self._rate_limit.flush()

    def _receive(self) -> None:
        """Read records until the child's end of the pipe is closed. Runs in the library's thread."""
        self._has_forked.wait()
        limit = _CpuLimit()
        for lines in _read_lines(self.queue._reader.fileno()):
            for line in lines:
                self._handle(line)
            if self._invalid and time.monotonic() - self._reported_at >= REPORT_INTERVAL_S:
                self._report_invalid()
            limit.wait()
        if self._invalid:
            self._report_invalid()
        self.queue.close()
        self.queue._reader.close()

    def _handle(self, line: bytes) -> None:
        try:
            self.sub_handler.handle(decode(line, process=self._process, pid=self._pid))
        except RecordError:
            self._invalid += 1
        except Exception:  # later records must still arrive
            log.exception("a log record of %s was lost", self._process, extra={"event": "log_record_lost"})

    def _report_invalid(self) -> None:
        count, self._invalid, self._reported_at = self._invalid, 0, time.monotonic()
        log.warning(
            "%s: %d invalid log records were discarded", self._process, count, extra={"event": "log_records_invalid"}
        )

    def _format_record(self, record: logging.LogRecord) -> bytes:
        return encode(record)

    def _send(self, line: bytes) -> None:
        if self._lost:
            message = f"{self._lost} log records were lost: they arrived faster than the supervisor could read them"
            extra = {"event": "log_records_lost"}
            report = log.makeRecord(log.name, logging.WARNING, __file__, 0, message, (), None, extra=extra)
            try:
                super()._send(encode(report))
            except queue.Full:
                self._lost += 1
                return
            self._lost = 0
        try:
            super()._send(line)
        except queue.Full:
            self._lost += 1

    def _write(self, pickled: bytes) -> None:
        """Write one line to the pipe. Runs in the thread of the queue, which pickles every object that it sends."""
        line = memoryview(pickle.loads(pickled))  # noqa: S301 - the queue pickled it in this process
        while line:
            line = line[os.write(self.queue._writer.fileno(), line) :]
        self.queue._sem.release()

    def close(self) -> None:
        """Wait briefly for the last records of a dead child. The thread continues to read any further records."""
        self._receive_thread.join(CLOSE_TIMEOUT_S)
        logging.Handler.close(self)


def _read_lines(descriptor: int) -> Iterator[list[bytes]]:
    """Yield the lines that each read completes. Truncate an oversized line, but to a length that is still too long.

    The function uses no buffered file: a file has a lock, and a fork could copy the lock while a thread holds it.
    """
    rest = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            yield lines
            rest = rest[: MAX_LINE_BYTES + 1]


class _CpuLimit:
    """Limit of the CPU time of the current thread: `CPU_SHARE` of a core, after a burst of `CPU_BURST_S`."""

    def __init__(self) -> None:
        self._credit_s = CPU_BURST_S
        self._at, self._used_s = time.monotonic(), time.thread_time()

    def wait(self) -> None:
        """Sleep until the CPU time since the last call is within the limit."""
        now, used_s = time.monotonic(), time.thread_time()
        earned_s = min(CPU_BURST_S, self._credit_s + CPU_SHARE * (now - self._at))
        self._credit_s, self._at, self._used_s = earned_s - (used_s - self._used_s), now, used_s
        if self._credit_s < 0:
            time.sleep(-self._credit_s / CPU_SHARE)
