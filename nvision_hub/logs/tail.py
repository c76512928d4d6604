"""Reader of one process's log files, which needs no running hub."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Any, Final

from nvision_hub.logs.files import file_of, previous_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

POLL_INTERVAL_S: Final = 0.2


class LogTail:
    """Log of one process. Call `last` once, then `new_entries` (any number of times) or `follow`, then `close`."""

    def __init__(self, directory: Path, process: str) -> None:
        self._path = file_of(directory, process)
        self._file: IO[bytes] | None = None
        self._partial = b""  # beginning of a line that is not yet completely written

    def last(self, count: int) -> list[dict[str, Any]]:
        """Return the last `count` entries, oldest first; fewer if the log is shorter."""
        self._open()
        lines = deque(self._complete_lines(), maxlen=count)
        if len(lines) < count:
            with contextlib.suppress(OSError):
                earlier = previous_file(self._path).read_bytes().splitlines()[-(count - len(lines)) :]
                lines.extendleft(reversed(earlier))
        return _entries(lines)

    def new_entries(self) -> list[dict[str, Any]]:
        """Return the entries since the last call.

        After a rotation, this includes entries of the old and the new file.
        """
        lines = self._complete_lines()
        if self._is_rotated():
            lines += self._complete_lines()  # lines that were written to the old file after the previous read
            self.close()
            self._open()
            lines += self._complete_lines()
        return _entries(lines)

    def follow(self) -> Iterator[dict[str, Any]]:
        """Yield new entries as they arrive. Never ends."""
        while True:
            time.sleep(POLL_INTERVAL_S)
            yield from self.new_entries()

    def close(self) -> None:
        """Close the file. A second call has no effect."""
        if self._file is not None:
            self._file.close()
        self._file, self._partial = None, b""

    def _open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._file = self._path.open("rb")

    def _is_rotated(self) -> bool:
        try:
            found = self._path.stat()
        except OSError:
            return False
        return self._file is None or not os.path.samestat(found, os.fstat(self._file.fileno()))

    def _complete_lines(self) -> list[bytes]:
        if self._file is None:
            return []
        *lines, self._partial = (self._partial + self._file.read()).split(b"\n")
        return lines


def _entries(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):  # an incomplete line after a power failure
            entry = json.loads(line)
            if isinstance(entry, dict):
                entries.append(entry)
    return entries
