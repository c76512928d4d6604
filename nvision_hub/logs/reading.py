"""What was kept of one member: its last lines, and those that come, across the change from one file to the next.

Reads files alone, so it works whether or not a hub runs.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from typing import IO, TYPE_CHECKING, Any

from nvision_hub.logs.files import file_of, older

if TYPE_CHECKING:
    from pathlib import Path


class Reader:
    """One member's log. `last` comes first, then `news` as often as one likes. Close it."""

    def __init__(self, directory: Path, member: str) -> None:
        self._path = file_of(directory, member)
        self._file: IO[bytes] | None = None
        self._part = b""  # of a line that is not yet written to its end

    def last(self, count: int) -> list[dict[str, Any]]:
        """The last `count` entries, oldest first; fewer where there are no more."""
        self._open()
        kept = deque(self._whole_lines(), maxlen=count)
        if len(kept) < count:
            with contextlib.suppress(OSError):
                before = older(self._path).read_bytes().splitlines()[-(count - len(kept)) :]
                kept.extendleft(reversed(before))
        return _entries(kept)

    def news(self) -> list[dict[str, Any]]:
        """The entries that have come since the last call, whichever file they are in."""
        lines = self._whole_lines()
        if self._is_another():
            lines += self._whole_lines()  # what was still written to it after it was read
            self.close()
            self._open()
            lines += self._whole_lines()
        return _entries(lines)

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        if self._file is not None:
            self._file.close()
        self._file, self._part = None, b""

    def _open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._file = self._path.open("rb")

    def _is_another(self) -> bool:
        """Whether the newest lines are in another file than the one that is open."""
        try:
            found = self._path.stat()
        except OSError:
            return False
        if self._file is None:
            return True
        ours = os.fstat(self._file.fileno())
        return (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino)

    def _whole_lines(self) -> list[bytes]:
        if self._file is None:
            return []
        *lines, self._part = (self._part + self._file.read()).split(b"\n")
        return lines


def _entries(lines: Any) -> list[dict[str, Any]]:
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):  # cut off by a power failure
            entry = json.loads(line)
            if isinstance(entry, dict):
                entries.append(entry)
    return entries
