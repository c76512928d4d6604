"""Log records for output that Python would print to stderr: warnings, and errors of threads and finalizers.

The hub redacts only log records, so no other text may reach stderr.
"""

from __future__ import annotations

import logging
import sys
import threading

log = logging.getLogger("nvision_hub.child")


def log_stray_errors() -> None:
    """Send warnings and unhandled errors to the log handlers of this process."""
    logging.captureWarnings(capture=True)
    threading.excepthook = _on_thread_error
    sys.unraisablehook = _on_unraisable_error


def _on_thread_error(error: threading.ExceptHookArgs) -> None:
    if error.exc_value is not None:
        log.error(
            "thread %s failed: unexpected error",
            error.thread.name if error.thread else "(unnamed)",
            extra={"event": "thread_crashed"},
            exc_info=(error.exc_type, error.exc_value, error.exc_traceback),
        )


def _on_unraisable_error(error: sys.UnraisableHookArgs) -> None:
    if error.exc_value is not None:
        log.error(
            "%s: %r; the program continues",
            error.err_msg or "exception ignored",
            error.object,
            extra={"event": "error_ignored"},
            exc_info=(error.exc_type, error.exc_value, error.exc_traceback),
        )
