"""Patterns of `include` in cameras.yaml: which files they match, and whether these files have changed.

This module reads folders but no file, so processes that must not know a secret may use it.
"""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from nvision_hub.config.value_types import ConfigString
from nvision_hub.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    Fingerprint = tuple[object, ...]

MAX_INCLUDED_FILES: Final = 1000
MAX_PATTERNS: Final = 100

_WILDCARDS: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True, repr=False)
class IncludePattern(ConfigString):
    """Path of a file below the folder of cameras.yaml, in which the file name may contain wildcards."""

    folder: str  # relative to the folder of cameras.yaml; empty for that folder
    name: str

    example: ClassVar = "cameras.d/*.yaml"
    pattern: ClassVar = r"^(?![/~])(?!(.*/)?\.\.(/|$)).*[^/]$"

    @property
    def shown(self) -> str:
        return os.path.join(self.folder, self.name)  # noqa: PTH118 - the same form as the found names

    def matches(self, names: Iterable[str]) -> list[str]:
        """Return the names that the file name of the pattern matches. A wildcard at the beginning matches no dot."""
        is_hidden = self.name.startswith(".")
        return [name for name in fnmatch.filter(names, self.name) if is_hidden or not name.startswith(".")]

    @classmethod
    def parse(cls, text: str) -> IncludePattern:
        """Parse a pattern. Raises `InvalidValueError`."""
        text = text.strip()
        folder, _, name = text.rpartition("/")
        if not name or name in (".", ".."):
            raise InvalidValueError("must name files", f"write a pattern such as {cls.example}")
        if not text.isprintable():
            raise InvalidValueError("contains a control character")
        if text.startswith(("/", "~")) or ".." in folder.split("/"):
            fix = f"write a pattern relative to that folder, such as {cls.example}"
            raise InvalidValueError("is outside the folder of cameras.yaml", fix)
        if _WILDCARDS.intersection(folder):
            fix = "write a list with one pattern for each folder"
            raise InvalidValueError("has a wildcard outside the file name", fix)
        return cls("" if folder in ("", ".") else os.path.normpath(folder), name)


def matching_files(directory: Path, patterns: Iterable[IncludePattern]) -> list[str]:
    """Return the files that match any of the patterns, sorted, relative to `directory`, the folder of cameras.yaml.

    Raises `OSError` if a folder cannot be read. A folder that does not exist contains no file.
    """
    by_folder: dict[str, list[IncludePattern]] = {}
    for pattern in patterns:
        by_folder.setdefault(pattern.folder, []).append(pattern)
    found: set[str] = set()
    for folder, of_folder in by_folder.items():
        try:
            names = os.listdir(directory / folder)  # noqa: PTH208 - names are enough
        except (FileNotFoundError, NotADirectoryError):
            continue
        matching = {name for pattern in of_folder for name in pattern.matches(names)}
        found |= {os.path.join(folder, name) for name in matching}  # noqa: PTH118 - the form of `shown`
    return sorted(found)


def file_fingerprint(path: Path, include: Iterable[IncludePattern] = ()) -> Fingerprint | None:
    """Return a value that differs whenever cameras.yaml or an included file changes; None if `path` is inaccessible.

    The value consists of the resolved path of cameras.yaml, the names of the included files, and the inode,
    modification time (ns), size (bytes), permissions and owner of each file.
    """
    try:
        real = path.resolve()
        found: list[object] = [real, *_facts(real)]
    except OSError:
        return None
    directory = path.absolute().parent
    try:
        names = matching_files(directory, include)
    except OSError as error:
        return *found, error.errno
    for name in names[: MAX_INCLUDED_FILES + 1]:
        try:
            found.append((name, *_facts(directory / name)))
        except OSError as error:
            found.append((name, error.errno))
    return tuple(found)


def _facts(path: Path) -> tuple[int, ...]:
    facts = path.stat()
    return facts.st_ino, facts.st_mtime_ns, facts.st_size, facts.st_mode, facts.st_uid, facts.st_gid
