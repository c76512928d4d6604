"""Log files on disk, one per process, such as `camera-lobby.jsonl`.

A separate thread writes the lines, so a slow or full disk delays neither the supervisor nor the processes that log. The
thread counts the lines that it cannot write, and later writes this count into the file. It opens a file for each write,
so a hundred cameras do not need a hundred descriptors.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import threading
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from nvision_hub.logs.formatters import JsonFormatter, camera_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_FILE_BYTES: Final = 2**20  # a file that would exceed this size replaces the previous file
MAX_LINES_WAITING: Final = 1000
MAX_FILE_AGE_S: Final = 30 * 86400  # the hub deletes files that no process has written for this time
CLOSE_TIMEOUT_S: Final = 1.0

_SUFFIX: Final = ".jsonl"


def file_of(directory: Path, process: str) -> Path:
    """Return the path of the current file of a process such as `camera:lobby`."""
    return directory / f"{re.sub('[^A-Za-z0-9_-]', '-', process)[:100]}{_SUFFIX}"


def previous_file(file: Path) -> Path:
    """Return the path of the file with the entries that precede those of `file`."""
    return file.with_name(f"{file.name}.1")


def processes_in(directory: Path) -> list[str]:
    """Return the processes, such as `camera:lobby`, that have files in `directory`."""
    try:
        names = sorted(file.name.removesuffix(_SUFFIX) for file in directory.glob(f"*{_SUFFIX}"))
    except OSError:
        return []
    return [re.sub("^camera-", "camera:", name) for name in names]


class LogFiles(logging.Handler):
    """Handler that writes each record to the file of its process and to the file of the record's camera."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self._directory = directory
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(MAX_LINES_WAITING)
        self._lost = Counter[str]()  # number of lost lines that the file does not report yet, by process
        self._lost_lock = threading.Lock()
        self._writer = threading.Thread(target=self._write_all, name="log files", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record for the writing thread. If the queue is full, count the record as lost."""
        line, worker = self.format(record), str(record.processName)
        camera = camera_of(worker, record.getMessage())
        for process in {worker, worker if camera is None else f"camera:{camera}"}:
            try:
                self._waiting.put_nowait((process, line))
            except queue.Full:
                self._add_lost(process, 1)

    def close(self) -> None:
        """Wait until all queued lines are written, for at most 2 * `CLOSE_TIMEOUT_S`."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=CLOSE_TIMEOUT_S)
        self._writer.join(CLOSE_TIMEOUT_S)
        super().close()

    def _write_all(self) -> None:
        self._delete_old_files()
        batch: list[tuple[str, str] | None] = []
        while None not in batch:
            batch = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) <= MAX_LINES_WAITING:
                    batch.append(self._waiting.get_nowait())
            by_process = defaultdict[str, list[str]](list)
            for process, line in filter(None, batch):
                by_process[process].append(line)
            for process, lines in by_process.items():
                self._write(process, lines)

    def _write(self, process: str, lines: Sequence[str]) -> None:
        with self._lost_lock:
            lost = self._lost.pop(process, 0)
        text = "".join(f"{line}\n" for line in ([self._lost_line(process, lost), *lines] if lost else lines))
        try:
            _append(file_of(self._directory, process), text.encode())
        except OSError:
            self._add_lost(process, lost + len(lines))

    def _add_lost(self, process: str, lines: int) -> None:
        with self._lost_lock:
            self._lost[process] += lines

    def _lost_line(self, process: str, lost: int) -> str:
        lines = "line is" if lost == 1 else "lines are"
        text = f"{lost} log {lines} missing before this one: the disk was full or too slow"
        record = logging.LogRecord("nvision_hub.logs", logging.WARNING, __file__, 0, text, (), None)
        vars(record).update(processName=process, event="log_lines_lost")
        return self.format(record)

    def _delete_old_files(self) -> None:
        with contextlib.suppress(OSError):
            for file in [*self._directory.glob(f"*{_SUFFIX}"), *self._directory.glob(f"*{_SUFFIX}.1")]:
                if time.time() - file.stat().st_mtime > MAX_FILE_AGE_S:
                    file.unlink()


def _append(file: Path, data: bytes) -> None:
    """Append all lines or none to a file. Raises `OSError`."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and size + len(data) > MAX_FILE_BYTES:
            file.rename(previous_file(file))
            _append(file, data)
            return
        written = 0
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError:
            os.ftruncate(descriptor, size)  # remove an incomplete line
            raise
    finally:
        os.close(descriptor)
