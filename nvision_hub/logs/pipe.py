"""Transport of a child process's log records to the supervisor's handlers, with one pipe per child.

The pipe is the queue of `multiprocessing_logging.MultiProcessingHandler`. A subclass adapts these points, for which the
library has no option:

- One handler per child. A process that dies while holding the queue's lock never releases the lock. With a queue
  shared by all children, all logging stopped after 10 to 80 `kill -9` under load (measured). With one pipe per child,
  the death of a child ends only its own pipe.
- A reading thread that blocks (`_receive`) and ends when the child's pipe ends. The library's thread checks five times
  a second whether the handler was closed. With 100 children, the checks cost 5 % of a core (measured).
- A bounded number of records (`_send`), so that a blocked reader does not use up the child's memory.
- Records as redacted text (`_format_record`), because libraries may attach objects that cannot be sent through a pipe.
- A rate limit in the child, so that repeated records do not go through the pipe.
"""

# ruff: noqa: SLF001 - the ends of a multiprocessing.Queue have no public name

from __future__ import annotations

import errno
import logging
from multiprocessing.util import Finalize
from typing import Final

from multiprocessing_logging import MultiProcessingHandler

from nvision_hub.logs.formatters import LoggedState, traceback_of
from nvision_hub.logs.rate_limit_filter import RateLimitFilter
from nvision_hub.redaction import redact

log = logging.getLogger("nvision_hub.logs")

MAX_RECORDS_WAITING: Final = 1000  # per child
CLOSE_TIMEOUT_S: Final = 0.25
_BEFORE_QUEUES_CLOSE: Final = 20  # multiprocessing closes queues at priority 10; higher priorities run first

_ATTRIBUTES_SENT: Final = (frozenset(vars(logging.makeLogRecord({}))) | {"event"}) - {"msg", "args", "exc_info"}


class _SupervisorHandlers(logging.Handler):
    """Handler that passes a child's records to the handlers of the supervisor."""

    def emit(self, record: logging.LogRecord) -> None:
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


class ChildLog(MultiProcessingHandler):  # type: ignore[misc]  # the library has no types
    """Log pipe of one child, created before the fork. Raises `OSError` if no thread or descriptor is available.

    A thread in the supervisor reads the pipe. Python 3.12+ warns about a fork while threads run, but this fork is safe:
    the child uses nothing that a thread may hold at the moment of the fork. The child's handlers and streams are new
    (`enter_child`, `runtime/process.py`). The logging module and malloc reinitialize their locks after a fork. The
    child never touches the queues of its siblings.
    """

    def __init__(self, name: str) -> None:
        self._lost = 0
        try:
            super().__init__(f"log {name}", sub_handler=_SupervisorHandlers())
        except RuntimeError as error:  # raised if no thread can be started
            raise OSError(errno.EAGAIN, "no thread for a child's log") from error
        self._rate_limit = RateLimitFilter(self)
        self.filters = [self._rate_limit]  # a new list: the library's list is shared with `sub_handler`

    @property
    def descriptors(self) -> tuple[int, int]:
        """Descriptors of both ends of the pipe. `enter_child` and `forked` each close one of them."""
        return self.queue._reader.fileno(), self.queue._writer.fileno()

    def enter_child(self) -> None:
        """Make this pipe the only log handler of the child. Runs in the child."""
        self.queue._reader.close()
        logging.getLogger().handlers = [self]
        # Flush before the queue closes. A forked child does not call the functions of `atexit`.
        Finalize(self, self.flush, exitpriority=_BEFORE_QUEUES_CLOSE)

    def forked(self) -> None:
        """Close the write end in the supervisor after the fork, so that the child's death ends the reading thread."""
        self.queue._writer.close()

    def flush(self) -> None:
        self._rate_limit.flush()

    def _receive(self) -> None:
        """Read records until the child's end of the pipe is closed. Runs in the library's thread."""
        while True:
            try:
                record = self.queue.get()
            except (EOFError, OSError):
                break
            except Exception:  # later records must still arrive
                log.exception("an unreadable log record of a child was lost", extra={"event": "log_record_unreadable"})
            else:
                self.sub_handler.handle(record)
        self.queue.close()
        self.queue._reader.close()

    def _format_record(self, record: logging.LogRecord) -> logging.LogRecord:
        text = logging.makeLogRecord({name: value for name, value in vars(record).items() if name in _ATTRIBUTES_SENT})
        text.msg, text.exc_text = redact(record.getMessage()), traceback_of(record)
        text.state = LoggedState.current
        return text

    def _send(self, record: logging.LogRecord) -> None:
        if self.queue.qsize() >= MAX_RECORDS_WAITING:
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        if lost:
            message = f"{lost} log records were lost: they arrived faster than the supervisor could read them"
            extra = {"event": "log_records_lost"}
            super()._send(log.makeRecord(log.name, logging.WARNING, __file__, 0, message, (), None, extra=extra))
        super()._send(record)

    def close(self) -> None:
        """Wait briefly for the last records of a dead child. The thread continues to read any further records."""
        self._receive_thread.join(CLOSE_TIMEOUT_S)
        logging.Handler.close(self)
