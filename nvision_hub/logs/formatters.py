"""Formatters for log records: text for people, JSON for programs. Both replace secrets with `***`.

    {"at": "2026-11-22T14:00:00.120Z", "level": "warning", "event": "camera_unreachable", "camera": "lobby",
     "worker": "camera:lobby", "state": "unreachable", "message": "...", "traceback": "..."}

| field | content |
|---|---|
| `at` | time of the record, ISO 8601 in UTC with milliseconds |
| `level` | `debug`, `info`, `warning`, `error` or `critical` |
| `event` | stable name of this kind of event, from `extra={"event": ...}`; null in records of libraries |
| `camera` | id of the camera that the record is about; null if there is none |
| `worker` | name of the process that logged the record |
| `state` | state of the process's camera at that time; null if there is none |
| `message` | text for people; its wording may change |
| `traceback` | absent if the record has no traceback |
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any, Final, Literal

from nvision_hub.control_characters import escape_json, replace_control_characters
from nvision_hub.redaction import redact
from nvision_hub.timestamps import iso_utc

LogFormat = Literal["text", "json"]

_CAMERA: Final = "camera:"
_ABOUT: Final = re.compile(rf"{_CAMERA}([a-z0-9][a-z0-9_-]*)")  # beginning of a supervisor message about a camera
_TRACEBACK: Final = logging.Formatter()


class LoggedState:
    """State of this process's camera, which formatters add to each record; None until it is set."""

    current: str | None = None


def camera_of(worker: str, message: str) -> str | None:
    """Return the camera of the process, or else the camera at the start of the message; None if there is neither."""
    about = _ABOUT.match(worker) or _ABOUT.match(message)
    return None if about is None else about[1]


def traceback_of(record: logging.LogRecord) -> str | None:
    """Return the redacted traceback; None if the record has no traceback."""
    text = record.exc_text or (record.exc_info and _TRACEBACK.formatException(record.exc_info))
    return redact(text) if text else None


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record as the JSON object that the module docstring describes."""
    message, worker = redact(record.getMessage()), str(record.processName)
    found = {
        "at": iso_utc(record.created),
        "level": record.levelname.lower(),
        "event": getattr(record, "event", None),
        "camera": camera_of(worker, message),
        "worker": worker,
        "state": getattr(record, "state", None),
        "message": message,
    }
    traceback = traceback_of(record)
    return found if traceback is None else {**found, "traceback": traceback}


class JsonFormatter(logging.Formatter):
    """Formatter for the JSON object that the module docstring describes, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_json(json.dumps(fields(record), ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """Formatter for `2026-11-22T14:00:00.120Z WARNING camera:lobby  message`. A traceback follows on separate lines.

    The formatter indents every line except the first, so a message cannot forge another record.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(processName)s  %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        del datefmt
        return iso_utc(record.created)

    def format(self, record: logging.LogRecord) -> str:
        return replace_control_characters(redact(super().format(record))).replace("\n", "\n    ")
