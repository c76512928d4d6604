"""Log records on the pipe of a child: which parts of a record the supervisor receives, and which it refuses."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.logs.formatters import JsonFormatter, LoggedState, TextFormatter, fields
from nvision_hub.logs.record_codec import (
    MAX_LINE_BYTES,
    MAX_MESSAGE_CHARACTERS,
    MAX_TRACEBACK_CHARACTERS,
    RecordError,
    decode,
    encode,
)
from nvision_hub.redaction import HIDDEN
from nvision_hub.runtime.status import CameraState
from tests.support.hostile_children import invalid_records


def record(text: str, *values: Any, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("nvision_hub.test", logging.WARNING, __file__, 1, text, values, None)
    vars(made).update(more)
    return made


def received(sent: logging.LogRecord) -> logging.LogRecord:
    return decode(encode(sent), process="camera:lobby", pid=7)


def test_a_record_arrives_with_the_fields_of_a_log_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoggedState, "current", CameraState.STREAMING)
    sent = record("%s after %d s", "streaming", 4, event="camera_streaming", processName="hub", library_object=object())
    found = received(sent)
    assert fields(found) == fields(sent) | {"worker": "camera:lobby", "camera": "lobby", "state": "streaming"}
    assert (found.getMessage(), found.process) == ("streaming after 4 s", 7)
    assert not hasattr(found, "library_object")


def test_texts_are_redacted_before_they_are_sent() -> None:
    error = OSError("rtsp://viewer:canary@10.0.0.5/a")
    line = encode(record("cannot open %s", error, exc_info=(OSError, error, None)))
    assert b"canary" not in line
    found = decode(line, process="a", pid=None)
    assert found.getMessage() == f"cannot open rtsp://{HIDDEN}@10.0.0.5/a"
    assert fields(found)["traceback"].endswith(f"OSError: rtsp://{HIDDEN}@10.0.0.5/a")


@pytest.mark.parametrize("event", [None, 7, "two words", "x" * 65, "line\n"])
def test_an_event_of_a_library_that_is_no_name_is_left_out(event: object) -> None:
    assert fields(received(record("text", event=event)))["event"] is None


def test_long_texts_are_cut() -> None:
    sent = record("\x01" * 10**6)
    sent.exc_text = "\x01" * 10**6 + "OSError"
    line = encode(sent)
    assert len(line) <= MAX_LINE_BYTES
    found = fields(decode(line, process="a", pid=None))
    assert len(found["message"]) == MAX_MESSAGE_CHARACTERS
    assert len(found["traceback"]) == MAX_TRACEBACK_CHARACTERS
    assert found["traceback"].endswith("OSError")


@given(st.text(st.characters()), st.integers())
def test_every_text_arrives_on_one_line(text: str, level: int) -> None:
    line = encode(record("%s", text, levelno=level))
    assert line.count(b"\n") == 1
    found = decode(line, process="a", pid=None)
    assert logging.NOTSET <= found.levelno <= logging.CRITICAL
    JsonFormatter().format(found)


def test_a_file_name_that_is_not_text_is_escaped() -> None:
    assert received(record("%s", os.fsdecode(b"\xff"))).getMessage() == "\\udcff"


@pytest.mark.parametrize("attack", invalid_records("canary").values(), ids=invalid_records("canary").keys())
def test_an_invalid_record_is_refused(attack: bytes) -> None:
    for line in attack[:-1].split(b"\n"):
        with pytest.raises(RecordError):
            decode(line, process="camera:lobby", pid=7)


@given(st.binary() | st.builds(lambda value: json.dumps(value).encode(), st.recursive(st.none(), st.lists)))
def test_arbitrary_bytes_raise_no_other_error(line: bytes) -> None:
    with pytest.raises(RecordError):
        decode(line, process="a", pid=None)


def test_a_message_cannot_begin_a_line_of_the_text_format() -> None:
    found = received(record("one\n2026-11-22T14:00:00.120Z WARNING hub  two\rthree"))
    lines = TextFormatter().format(found).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("    ")
