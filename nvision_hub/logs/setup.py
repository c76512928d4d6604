"""Logging setup of a top-level process such as the hub."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import sys
from typing import TYPE_CHECKING

from nvision_hub.logs.files import LogFiles
from nvision_hub.logs.formatters import JsonFormatter, LogFormat, TextFormatter
from nvision_hub.logs.rate_limit_filter import RateLimitFilter
from nvision_hub.logs.stray_errors import log_stray_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def set_up(level: int = logging.INFO, handler: logging.Handler | None = None, *, form: LogFormat = "text") -> None:
    """Send the records of this process, and of the children that it starts later, to `handler`.

    If `handler` is None, write lines in the format `form` to stderr. Records of children arrive on other threads, so
    `handler` must not block.
    """
    if handler is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(RateLimitFilter(handler))
    multiprocessing.current_process().name = "hub"  # name in the log lines of this process
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # applies to libraries
    logging.getLogger("nvision_hub").setLevel(level)
    log_stray_errors()


@contextlib.contextmanager
def log_files(directory: Path) -> Iterator[None]:
    """Also write each record to the file of its process.

    At the end, emit all records that the rate limit has held back.
    """
    root, files = logging.getLogger(), LogFiles(directory)
    root.addHandler(files)
    try:
        yield
    finally:
        for each in (each for handler in root.handlers for each in handler.filters):
            if isinstance(each, RateLimitFilter):
                each.flush()
        root.removeHandler(files)
        files.close()
