"""Codec for the log records that a child sends to the supervisor: one line of JSON per record.

The supervisor never unpickles data from a child, because a pickle can run any code. The child sends only redacted text.
The supervisor itself supplies the name and the pid of the process, so a child cannot log as another process.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from nvision_hub.logs.formatters import LoggedState, traceback_of
from nvision_hub.metrics.snapshot import StrictData
from nvision_hub.redaction import redact

MAX_LINE_BYTES: Final = 256 * 1024  # more than the longest texts need even if every character is escaped
MAX_MESSAGE_CHARACTERS: Final = 8192
MAX_TRACEBACK_CHARACTERS: Final = 16384
MAX_EPOCH_S: Final = 253_402_300_799  # last second of the year 9999, the last year that `datetime` supports

_EVENT: Final = r"^[a-z][a-z0-9_]{0,63}$"


class RecordError(ValueError):
    """A line is not a log record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _RecordFields(StrictData):
    created: Annotated[float, Field(ge=0, le=MAX_EPOCH_S, allow_inf_nan=False)]  # seconds since the epoch
    level: Annotated[int, Field(ge=logging.NOTSET, le=logging.CRITICAL)]
    message: Annotated[str, Field(max_length=MAX_MESSAGE_CHARACTERS)]
    event: Annotated[str, Field(pattern=_EVENT)] | None  # None in records of libraries
    state: Annotated[str, Field(pattern=_EVENT)] | None  # state of the child's camera; None if there is none
    traceback: Annotated[str, Field(max_length=MAX_TRACEBACK_CHARACTERS)] | None


_FIELDS: Final = TypeAdapter(_RecordFields)


def encode(record: logging.LogRecord) -> bytes:
    """Encode a record of this process as one line. Redact its texts, and truncate long ones."""
    message, traceback = _unicode(redact(record.getMessage())), traceback_of(record)
    return b"%b\n" % _FIELDS.dump_json(
        _RecordFields(
            created=record.created,
            level=min(max(record.levelno, logging.NOTSET), logging.CRITICAL),
            message=message[:MAX_MESSAGE_CHARACTERS],
            event=_identifier(getattr(record, "event", None)),
            state=_identifier(LoggedState.current),
            # Keep the last lines of a traceback, because they name the error.
            traceback=None if traceback is None else _unicode(traceback)[-MAX_TRACEBACK_CHARACTERS:],
        )
    )


def decode(line: bytes, *, process: str, pid: int | None) -> logging.LogRecord:
    """Decode a line as a record of the given process. Raises `RecordError`, and no other error."""
    if len(line) > MAX_LINE_BYTES:
        raise RecordError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        fields = _FIELDS.validate_json(line)
    except ValidationError as error:  # the text of this error would quote the line
        raise RecordError(f"{error.error_count()} invalid fields") from None
    record = logging.LogRecord("nvision_hub.child", fields.level, "", 0, fields.message, None, None)
    record.created, record.msecs = fields.created, fields.created % 1 * 1000
    record.processName, record.process = process, pid
    record.exc_text = fields.traceback
    record.event, record.state = fields.event, fields.state
    return record


def _unicode(text: str) -> str:
    """Return the text with its lone surrogates escaped. File names that are not UTF-8 contain lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _identifier(value: object) -> str | None:
    """Return `value` if it is a valid name of an event or state; None otherwise."""
    text = str(value)
    return text if value is not None and re.fullmatch(_EVENT, text) else None
