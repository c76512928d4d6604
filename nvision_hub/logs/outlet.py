"""What a process that stands at the top does with records, its own and its children's: stderr, and files by member."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import sys
from typing import TYPE_CHECKING, Final

from nvision_hub.logs.files import LogFiles
from nvision_hub.logs.line import Form, formatter
from nvision_hub.logs.repeats import OncePerSecond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIBRARIES_SHOWN_FROM: Final = logging.WARNING


def set_up(level: int = logging.INFO, handler: logging.Handler | None = None, *, form: Form = "text") -> None:
    """Send every record of this process, and of the children it will have, to `handler`.

    Lines on stderr, in that form, where it is None. Records from children come on threads of their own, so a handler
    of another kind must be quick.
    """
    if handler is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter(form))
    handler.addFilter(OncePerSecond(_past_the_filter(handler)))
    multiprocessing.current_process().name = "hub"  # what lines say of it; each child has its own name
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(LIBRARIES_SHOWN_FROM)
    logging.getLogger("nvision_hub").setLevel(level)


@contextlib.contextmanager
def kept_in(directory: Path) -> Iterator[None]:
    """Meanwhile, keep every record in files by member, too; at the end, tell what is still held back."""
    root, files = logging.getLogger(), LogFiles(directory)
    root.addHandler(files)
    try:
        yield
    finally:
        for handler in root.handlers:
            for each in handler.filters:
                if isinstance(each, OncePerSecond):
                    each.flush()
        root.removeHandler(files)
        files.close()


def _past_the_filter(handler: logging.Handler) -> Callable[[logging.LogRecord], None]:
    def tell(record: logging.LogRecord) -> None:
        handler.acquire()
        try:
            handler.emit(record)
        finally:
            handler.release()

    return tell
