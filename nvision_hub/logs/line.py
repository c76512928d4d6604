"""One log record as a line: for people, or as JSON for programs. Whatever it says has lost its secrets.

    {"at": "2026-11-22T14:00:00.120Z", "level": "warning", "camera": "lobby", "worker": "camera:lobby",
     "state": "unreachable", "message": "...", "traceback": "..."}

`worker` is the process that says it, `camera` the one that it is about (None where it is about none), `state` that
camera's at the time (None where the process has none). `traceback` is there only where there is one.
"""

from __future__ import annotations

import json
import logging
import re
import time
from datetime import UTC, datetime
from typing import Any, Final, Literal

from nvision_hub.errors import redact

Form = Literal["text", "json"]

_CAMERA: Final = "camera:"
_ABOUT: Final = re.compile(rf"{_CAMERA}([a-z0-9][a-z0-9_-]*)")  # how the supervisor's sentences begin
_TRACEBACK: Final = logging.Formatter()


class _Own:
    """What this process says of itself with every record."""

    state: str | None = None


def note_state(state: str) -> None:
    """Let every later record of this process tell this state."""
    _Own.state = state


def own_state() -> str | None:
    """What was noted last; None where nothing was."""
    return _Own.state


def camera_of(worker: str, message: str) -> str | None:
    """The camera that a message of a process is about: its own, or the one that it begins with."""
    about = _ABOUT.match(worker) or _ABOUT.match(message)
    return None if about is None else about[1]


def traceback_of(record: logging.LogRecord) -> str | None:
    """The traceback as text, None where there is none."""
    text = record.exc_text or (record.exc_info and _TRACEBACK.formatException(record.exc_info))
    return redact(text) if text else None


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """A record as the JSON object above."""
    message, worker = redact(record.getMessage()), str(record.processName)
    found = {
        "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "camera": camera_of(worker, message),
        "worker": worker,
        "state": getattr(record, "state", None),
        "message": message,
    }
    traceback = traceback_of(record)
    return found if traceback is None else {**found, "traceback": traceback}


class JsonLine(logging.Formatter):
    """The JSON object above, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line without its end."""
        return json.dumps(fields(record), ensure_ascii=False)


class TextLine(logging.Formatter):
    """`2026-11-22T14:00:00.120Z WARNING camera:lobby  sentence`; a traceback follows on lines of its own."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(processName)s  %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """As in the JSON object."""
        seconds = super().formatTime(record, datefmt or "%Y-%m-%dT%H:%M:%S")
        return f"{seconds}.{int(record.msecs):03d}Z"

    def format(self, record: logging.LogRecord) -> str:
        """One line or more, without the last one's end."""
        return redact(super().format(record))


def formatter(form: Form) -> logging.Formatter:
    """What writes records in that form."""
    return JsonLine() if form == "json" else TextLine()
