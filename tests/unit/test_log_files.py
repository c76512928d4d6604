"""Records kept in files by member, and read again: rights, rotation, losses, and following from file to file."""

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
from nvision_hub.logs.files import LogFiles, file_of, members_in, older
from nvision_hub.logs.line import fields
from nvision_hub.logs.reading import Reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def record(text: str, worker: str = "camera:lobby", **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("nvision_hub.test", logging.WARNING, __file__, 1, text, (), None)
    made.processName = worker
    vars(made).update(more)
    return made


def until(condition: Callable[[], object], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_file(file: Path, text: str) -> bool:
    with contextlib.suppress(FileNotFoundError):  # not yet, or just being replaced
        return text in file.read_text()
    return False


def messages(directory: Path, member: str) -> list[str]:
    reader = Reader(directory, member)
    told = [entry["message"] for entry in reader.last(10**6)]
    reader.close()
    return told


def test_a_line_has_all_that_programs_need_and_no_secret() -> None:
    made = record("opening rtsp://viewer:canary@10.0.0.5/a", state="connecting")
    assert fields(made) == {
        "at": fields(made)["at"],
        "level": "warning",
        "camera": "lobby",
        "worker": "camera:lobby",
        "state": "connecting",
        "message": "opening rtsp://***@10.0.0.5/a",
    }
    assert fields(made)["at"].endswith("Z")
    made.exc_info = (OSError, OSError("rtsp://viewer:canary@10.0.0.5/a"), None)
    assert "OSError: rtsp://***@10.0.0.5/a" in fields(made)["traceback"]
    assert fields(record("stopping", "hub"))["camera"] is None


def test_a_member_has_a_file_and_a_camera_also_what_is_said_of_it(tmp_path: Path) -> None:
    log = LogFiles(tmp_path / "logs")
    log.handle(record("streaming"))
    log.handle(record("camera:lobby ended (signal 9)", "hub"))
    log.handle(record("stopping", "hub"))
    log.close()
    assert messages(tmp_path / "logs", "camera:lobby") == ["streaming", "camera:lobby ended (signal 9)"]
    assert messages(tmp_path / "logs", "hub") == ["camera:lobby ended (signal 9)", "stopping"]
    assert members_in(tmp_path / "logs") == ["camera:lobby", "hub"]
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "logs").iterdir()} == {0o600}


def test_a_name_never_leaves_the_folder(tmp_path: Path) -> None:
    assert file_of(tmp_path, "../../etc/passwd").parent == tmp_path


def test_a_file_is_replaced_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILE_MAX_BYTES", 5000)
    log = LogFiles(tmp_path)
    file = file_of(tmp_path, "camera:lobby")
    for number in range(200):
        log.handle(record(f"number {number}"))
        until(partial(in_file, file, f'number {number}"'))
    log.close()
    assert file.stat().st_size <= 5000
    assert older(file).stat().st_size <= 5000
    assert len(list(tmp_path.iterdir())) == 2
    told = messages(tmp_path, "camera:lobby")
    assert told == [f"number {number}" for number in range(200 - len(told), 200)]
    assert len(told) > 30


def test_a_reader_follows_from_file_to_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILE_MAX_BYTES", 3000)
    log, reader = LogFiles(tmp_path), Reader(tmp_path, "camera:lobby")
    assert reader.last(10) == []
    seen = list[str]()

    def has_seen(message: str) -> bool:
        seen.extend(entry["message"] for entry in reader.news())
        return message in seen

    for number in range(100):
        log.handle(record(f"number {number}"))
        until(partial(has_seen, f"number {number}"))
    log.close()
    reader.close()
    assert seen == [f"number {number}" for number in range(100)]


def test_half_a_line_is_read_when_it_is_whole_and_rubbish_never(tmp_path: Path) -> None:
    file, reader = file_of(tmp_path, "hub"), Reader(tmp_path, "hub")
    file.write_bytes(b'not json\n"no object"\n{"message": "a"}\n{"mess')
    assert reader.last(5) == [{"message": "a"}]
    with file.open("ab") as more:
        more.write(b'age": "b"}\n')
    assert reader.news() == [{"message": "b"}]
    reader.close()


def test_lines_that_could_not_be_written_are_counted_and_told(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.write_text("a file where the folder should be")
    log = LogFiles(directory)
    for number in range(5):
        log.handle(record(f"number {number}"))
    until(lambda: log._lost["camera:lobby"] == 5)
    directory.unlink()
    log.handle(record("there is room again"))
    log.close()
    assert messages(directory, "camera:lobby") == [
        "5 log lines are missing before this one: the disk took no more",
        "there is room again",
    ]


def test_a_half_written_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_files_of_members_that_are_long_gone_are_removed(tmp_path: Path) -> None:
    old, new = file_of(tmp_path, "camera:old"), file_of(tmp_path, "camera:new")
    for file in (old, older(old), new):
        file.write_text("{}\n")
    past = time.time() - files.FORGOTTEN_AFTER_S - 1
    os.utime(old, (past, past))
    os.utime(older(old), (past, past))
    LogFiles(tmp_path).close()
    assert list(tmp_path.iterdir()) == [new]
