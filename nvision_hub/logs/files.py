"""Records kept on disk by member, `camera-lobby.jsonl` and so on, so that one camera's past can be read.

A thread of its own writes them: a disk that is slow or full must hold up neither the supervisor nor those who log.
What it could not write is counted, and told in the file once it can. A file is opened for each write, so that a
hundred cameras hold no hundred descriptors.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from nvision_hub.logs.line import JsonLine, camera_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FILE_MAX_BYTES: Final = 2**20  # then it becomes the older one, of which there is one
LINES_WAITING_MAX: Final = 1000
FORGOTTEN_AFTER_S: Final = 30 * 86400  # of members that have written nothing since
LAST_WORDS_WITHIN_S: Final = 1.0

_SUFFIX: Final = ".jsonl"


def file_of(directory: Path, member: str) -> Path:
    """The newer file of a member, such as `camera:lobby`; it may not exist."""
    return directory / f"{re.sub('[^A-Za-z0-9_-]', '-', member)[:100]}{_SUFFIX}"


def older(file: Path) -> Path:
    """The file that holds what came before; it may not exist."""
    return file.with_name(f"{file.name}.1")


def members_in(directory: Path) -> list[str]:
    """The members that have files there, cameras as `camera:lobby`."""
    try:
        names = sorted(file.name.removesuffix(_SUFFIX) for file in directory.glob(f"*{_SUFFIX}"))
    except OSError:
        return []
    return [re.sub("^camera-", "camera:", name) for name in names]


class LogFiles(logging.Handler):
    """Keeps every record in the file of the process that wrote it, and in that of the camera that it is about."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.setFormatter(JsonLine())
        self._directory = directory
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(LINES_WAITING_MAX)
        self._lost = Counter[str]()  # lines by member, of which its file is yet to tell
        self._counting = threading.Lock()
        self._writer = threading.Thread(target=self._write_all, name="log files", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand its line to the writer; where that is far behind, count it as lost."""
        line, worker = self.format(record), str(record.processName)
        camera = camera_of(worker, record.getMessage())
        for member in {worker, worker if camera is None else f"camera:{camera}"}:
            try:
                self._waiting.put_nowait((member, line))
            except queue.Full:
                self._count_lost(member, 1)

    def close(self) -> None:
        """Wait a moment until what was handed over is written."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=LAST_WORDS_WITHIN_S)
        self._writer.join(LAST_WORDS_WITHIN_S)
        super().close()

    def _write_all(self) -> None:
        self._forget()
        goes_on = True
        while goes_on:
            by_member: dict[str, list[str]] = {}
            for item in self._batch():
                if item is None:
                    goes_on = False
                else:
                    by_member.setdefault(item[0], []).append(item[1])
            for member, lines in by_member.items():
                self._write(member, lines)

    def _batch(self) -> Iterator[tuple[str, str] | None]:
        yield self._waiting.get()
        with contextlib.suppress(queue.Empty):
            for _ in range(LINES_WAITING_MAX):
                yield self._waiting.get_nowait()

    def _write(self, member: str, lines: Sequence[str]) -> None:
        with self._counting:
            lost = self._lost.pop(member, 0)
        told = [self._loss(member, lost), *lines] if lost else lines
        try:
            _append(file_of(self._directory, member), "".join(f"{line}\n" for line in told).encode())
        except OSError:
            self._count_lost(member, lost + len(lines))

    def _count_lost(self, member: str, lines: int) -> None:
        with self._counting:
            self._lost[member] += lines

    def _loss(self, member: str, lost: int) -> str:
        record = logging.makeLogRecord(
            {"levelno": logging.WARNING, "levelname": "WARNING", "processName": member, "created": time.time()}
        )
        record.msg = f"{lost} log line{' is' if lost == 1 else 's are'} missing before this one: the disk took no more"
        return self.format(record)

    def _forget(self) -> None:
        """Remove the files of members that are long gone."""
        with contextlib.suppress(OSError):
            for file in [*self._directory.glob(f"*{_SUFFIX}"), *self._directory.glob(f"*{_SUFFIX}.1")]:
                if time.time() - file.stat().st_mtime > FORGOTTEN_AFTER_S:
                    file.unlink()


def _append(file: Path, data: bytes) -> None:
    """Add lines to a file, all of them or none. Raises `OSError`."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and size + len(data) > FILE_MAX_BYTES:
            file.rename(older(file))
            _append(file, data)
            return
        written = 0
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError:
            os.ftruncate(descriptor, size)  # no half line stays
            raise
    finally:
        os.close(descriptor)
