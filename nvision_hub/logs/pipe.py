"""A child's log records on their way to the supervisor's handlers: one pipe per child.

Every child has a `MultiProcessingHandler` of its own. One shared by all wedges the whole fleet's logging after some
tens of `kill -9` under load (measured: 10 to 80), because a process that dies inside the shared queue's lock keeps
it; with one each, a death ends that child's pipe and nothing else.
"""

# ruff: noqa: SLF001 - the library's handler and its queue are adapted from inside, for want of another way

from __future__ import annotations

import contextlib
import errno
import logging
from multiprocessing.util import Finalize
from typing import Final

from multiprocessing_logging import MultiProcessingHandler

from nvision_hub.errors import redact
from nvision_hub.logs.line import own_state, traceback_of
from nvision_hub.logs.repeats import OncePerSecond

log = logging.getLogger("nvision_hub.logs")

RECORDS_WAITING_MAX: Final = 1000  # per child
LAST_WORDS_WITHIN_S: Final = 0.25
_BEFORE_QUEUES_CLOSE: Final = 20  # multiprocessing.queues gives its own finalizer 10; the highest goes first

_TEXT_OF_A_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) - {"msg", "args", "exc_info"}


class _Forward(logging.Handler):
    """Hands a child's record to the supervisor's own handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


class _ChildHandler(MultiProcessingHandler):  # type: ignore[misc]  # the library has no types
    """The library's handler for exactly one child: without polling, bounded, and for any record."""

    def __init__(self, name: str) -> None:
        self._lost = 0
        super().__init__(name, sub_handler=_Forward())
        # Held back at the source: what is told once a second must not go through the pipe a thousand times. A list of
        # its own, for the library shares that of the handler at the other end.
        self._repeats = OncePerSecond(self._tell)
        self.filters = [self._repeats]

    def _tell(self, record: logging.LogRecord) -> None:
        with self.lock:
            self.emit(record)

    def flush(self) -> None:
        self._repeats.flush()

    def _receive(self) -> None:
        """Be the reading thread, until the child's end of the pipe is closed.

        The library's own wakes up five times a second to see whether its handler was closed: 5 % of a core at 100
        children (measured). This one sleeps, because a child's death closes its pipe.
        """
        with contextlib.suppress(EOFError, OSError):
            while True:
                try:
                    record = self.queue.get()
                except (EOFError, OSError):
                    raise
                except Exception:  # a record that cannot be read must not end the reading of those after it
                    log.exception("a record of a child's log cannot be read; it is lost")
                else:
                    self.sub_handler.handle(record)
        self.queue.close()
        self.queue._reader.close()

    def _format_record(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record as text alone, without secrets: what libraries attach to it may not fit through a pipe."""
        text = logging.makeLogRecord({name: value for name, value in vars(record).items() if name in _TEXT_OF_A_RECORD})
        text.msg, text.exc_text = redact(record.getMessage()), traceback_of(record)
        text.state = own_state()
        return text

    def _send(self, record: logging.LogRecord) -> None:
        if self.queue.qsize() >= RECORDS_WAITING_MAX:  # a reader that is held up must not cost the child its memory
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        if lost:
            note = f"{lost} log records are lost: they came faster than they were read"
            super()._send(log.makeRecord(log.name, logging.WARNING, __file__, 0, note, (), None))
        super()._send(record)

    def close(self) -> None:
        """Wait a moment for the child's last words; where they are many, the thread reads on alone."""
        self._receive_thread.join(LAST_WORDS_WITHIN_S)
        logging.Handler.close(self)


class ChildLog:
    """One child's log pipe, made before the fork. Raises `OSError` where there is no thread or descriptor for it.

    A thread in the supervisor reads it. Forking while such threads run is safe here, though Python 3.12+ warns:
    the child uses nothing a thread may hold at that moment. Its handlers and streams are new (`enter_child`,
    `child.py`), the logging module and malloc renew their own locks after a fork, and siblings' queues are never
    touched.
    """

    def __init__(self, name: str) -> None:
        try:
            self._handler = _ChildHandler(f"log {name}")
        except RuntimeError as error:  # how threading says that it got no thread
            raise OSError(errno.EAGAIN, "no thread for a child's log") from error

    @property
    def descriptors(self) -> tuple[int, int]:
        """Its two ends, of which `enter_child` and `forked` each close one."""
        return self._handler.queue._reader.fileno(), self._handler.queue._writer.fileno()

    def enter_child(self) -> None:
        """In the child: this pipe is the only way out for records."""
        self._handler.queue._reader.close()
        logging.getLogger().handlers = [self._handler]
        # Before the queue takes nothing more; what registers with `atexit` is not called in a forked child.
        Finalize(self._handler, self._handler.flush, exitpriority=_BEFORE_QUEUES_CLOSE)

    def forked(self) -> None:
        """In the supervisor, after the fork: drop the write end, so that the child's death ends the reading thread."""
        self._handler.queue._writer.close()

    def close(self) -> None:
        """After the child's death: wait a moment for what it still wrote, then let go."""
        self._handler.close()
