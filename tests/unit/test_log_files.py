"""Log files per process: permissions, rotation, lost lines, and reading across rotation."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.logs import files
from nvision_hub.logs.files import LogFiles, file_of, previous_file, processes_in
from nvision_hub.logs.formatters import fields
from nvision_hub.logs.tail import LogTail
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def record(text: str, worker: str = "camera:lobby", **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("nvision_hub.test", logging.WARNING, __file__, 1, text, (), None)
    made.processName = worker
    vars(made).update(more)
    return made


def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_file(file: Path, text: str) -> bool:
    with contextlib.suppress(FileNotFoundError):  # the file is not written yet, or is being rotated
        return text in file.read_text()
    return False


def messages(directory: Path, process: str) -> list[str]:
    reader = LogTail(directory, process)
    found = [entry["message"] for entry in reader.last(10**6)]
    reader.close()
    return found


def test_a_json_line_has_every_documented_field_and_no_secret() -> None:
    made = record("opening rtsp://viewer:canary@10.0.0.5/a", state="connecting", event="camera_opening")
    assert fields(made) == {
        "at": fields(made)["at"],
        "level": "warning",
        "event": "camera_opening",
        "camera": "lobby",
        "worker": "camera:lobby",
        "state": "connecting",
        "message": "opening rtsp://***@10.0.0.5/a",
    }
    assert fields(made)["at"].endswith("Z")
    made.exc_info = (OSError, OSError("rtsp://viewer:canary@10.0.0.5/a"), None)
    assert "OSError: rtsp://***@10.0.0.5/a" in fields(made)["traceback"]
    of_hub = fields(record("stopping", "hub"))
    assert (of_hub["camera"], of_hub["event"]) == (None, None)


def test_a_record_goes_into_the_files_of_its_process_and_its_camera(tmp_path: Path) -> None:
    log = LogFiles(tmp_path / "logs")
    log.handle(record("streaming"))
    log.handle(record("camera:lobby ended (signal 9)", "hub"))
    log.handle(record("stopping", "hub"))
    log.close()
    assert messages(tmp_path / "logs", "camera:lobby") == ["streaming", "camera:lobby ended (signal 9)"]
    assert messages(tmp_path / "logs", "hub") == ["camera:lobby ended (signal 9)", "stopping"]
    assert processes_in(tmp_path / "logs") == ["camera:lobby", "hub"]
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "logs").iterdir()} == {0o600}


def test_a_process_name_never_leads_outside_the_folder(tmp_path: Path) -> None:
    assert file_of(tmp_path, "../../etc/passwd").parent == tmp_path


def test_a_full_file_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 5000)
    log = LogFiles(tmp_path)
    file = file_of(tmp_path, "camera:lobby")
    for number in range(200):
        log.handle(record(f"number {number}"))
        until(partial(in_file, file, f'number {number}"'))
    log.close()
    assert file.stat().st_size <= 5000
    assert previous_file(file).stat().st_size <= 5000
    assert len(list(tmp_path.iterdir())) == 2
    found = messages(tmp_path, "camera:lobby")
    assert found == [f"number {number}" for number in range(200 - len(found), 200)]
    assert len(found) > 30


def test_a_reader_follows_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 3000)
    log, reader = LogFiles(tmp_path), LogTail(tmp_path, "camera:lobby")
    assert reader.last(10) == []
    seen = list[str]()

    def has_seen(message: str) -> bool:
        seen.extend(entry["message"] for entry in reader.new_entries())
        return message in seen

    for number in range(100):
        log.handle(record(f"number {number}"))
        until(partial(has_seen, f"number {number}"))
    log.close()
    reader.close()
    assert seen == [f"number {number}" for number in range(100)]


def test_an_incomplete_line_is_read_once_complete_and_invalid_lines_are_skipped(tmp_path: Path) -> None:
    file, reader = file_of(tmp_path, "hub"), LogTail(tmp_path, "hub")
    file.write_bytes(b'not json\n"no object"\n{"message": "a"}\n{"mess')
    assert reader.last(5) == [{"message": "a"}]
    with file.open("ab") as more:
        more.write(b'age": "b"}\n')
    assert reader.new_entries() == [{"message": "b"}]
    reader.close()


def test_lines_that_could_not_be_written_are_counted_in_the_file(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.write_text("a file instead of the directory")
    log = LogFiles(directory)
    for number in range(5):
        log.handle(record(f"number {number}"))
    until(lambda: log._lost["camera:lobby"] == 5)
    directory.unlink()
    log.handle(record("there is room again"))
    log.close()
    assert messages(directory, "camera:lobby") == [
        "5 log lines are missing before this one: the disk was full or too slow",
        "there is room again",
    ]


def test_an_incomplete_line_is_removed_after_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, real = [0], os.write

    def full(descriptor: int, data: bytes) -> int:
        written[0] += 1
        if written[0] == 2:
            return real(descriptor, data[:10])
        if written[0] == 3:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    file = file_of(tmp_path, "hub")
    files._append(file, b'{"message": "a"}\n')
    with pytest.raises(OSError, match="No space"):
        files._append(file, b'{"message": "b"}\n')
    files._append(file, b'{"message": "c"}\n')
    assert [json.loads(line)["message"] for line in file.read_text().splitlines()] == ["a", "c"]


def test_old_files_are_deleted(tmp_path: Path) -> None:
    old, new = file_of(tmp_path, "camera:old"), file_of(tmp_path, "camera:new")
    for file in (old, previous_file(old), new):
        file.write_text("{}\n")
    past = time.time() - files.MAX_FILE_AGE_S - 1
    os.utime(old, (past, past))
    os.utime(previous_file(old), (past, past))
    LogFiles(tmp_path).close()
    assert list(tmp_path.iterdir()) == [new]
