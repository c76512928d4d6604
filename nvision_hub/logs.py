"""Where log records go: one stderr handler in the supervisor, one pipe per child that feeds it.

Every child has a `MultiProcessingHandler` of its own. One shared by all wedges the whole fleet's logging after some
tens of `kill -9` under load (measured: 10 to 80), because a process that dies inside the shared queue's lock keeps
it; with one each, a death ends that child's pipe and nothing else.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

from multiprocessing_logging import MultiProcessingHandler

from nvision_hub.errors import redact

if TYPE_CHECKING:
    from collections.abc import Iterable

LIBRARIES_SHOWN_FROM = logging.WARNING


class _Line(logging.Formatter):
    """`2026-11-22T14:00:00.120Z WARNING camera:lobby  sentence`; addresses lose their user information."""

    converter = staticmethod(time.gmtime)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        seconds = super().formatTime(record, datefmt or "%Y-%m-%dT%H:%M:%S")
        return f"{seconds}.{int(record.msecs):03d}Z"

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def set_up(level: int = logging.INFO, handler: logging.Handler | None = None) -> None:
    """Send every record of this process, and of the children it will have, to `handler`: lines on stderr where None.

    Records from children come on threads of their own, so a handler of another kind must be quick.
    """
    if handler is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Line("%(asctime)s %(levelname)-7s %(processName)s  %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(LIBRARIES_SHOWN_FROM)
    logging.getLogger("nvision_hub").setLevel(level)


class _Forward(logging.Handler):
    """Hands a child's record to the supervisor's own handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


class ChildLog:
    """One child's log pipe, made before the fork.

    A thread in the supervisor reads it. Forking while such threads run is safe here, though Python 3.12+ warns:
    the child uses nothing a thread may hold at that moment. Its handlers and stderr are new (`enter_child`,
    `child.py`), the logging module and malloc renew their own locks after a fork, and siblings' queues are never
    touched.
    """

    def __init__(self, name: str) -> None:
        self._handler = MultiProcessingHandler(f"log {name}", sub_handler=_Forward())

    @property
    def child_descriptors(self) -> Iterable[int]:
        """What the child must keep open."""
        return (self._handler.queue._writer.fileno(),)  # noqa: SLF001 - the library offers no other way

    def enter_child(self) -> None:
        """In the child: this pipe is the only way out for records."""
        logging.getLogger().handlers = [self._handler]

    def forked(self) -> None:
        """In the supervisor, after the fork: drop the write end, so that the child's death ends the reading thread."""
        self._handler.queue._writer.close()  # noqa: SLF001 - see child_descriptors

    def close(self) -> None:
        """After the child's death: wait for what it still wrote, then let go."""
        self._handler.close()
