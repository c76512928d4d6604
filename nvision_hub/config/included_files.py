"""Reader of the files that `include` of cameras.yaml names. Their cameras follow those of cameras.yaml.

An included file contains only `cameras`. The limits of cameras.yaml apply to all files together.
"""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nvision_hub.config.include_pattern import MAX_INCLUDED_FILES, MAX_PATTERNS, IncludePattern, matching_files
from nvision_hub.config.source_text import MAX_FILE_BYTES, file_error, read_text
from nvision_hub.config.yaml_nodes import YamlNode
from nvision_hub.config.yaml_reader import MAX_NODES, read_tree
from nvision_hub.errors import ConfigError, Diagnostic, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.errors import KeyPath

_KEY: Final = "cameras"
_LIMITS: Final = frozenset({"file_too_large", "too_many_values"})


def with_included(path: Path, tree: YamlNode, *, used_bytes: int) -> tuple[YamlNode, list[Diagnostic]]:
    """Return the tree of cameras.yaml with the cameras of its included files, and the problems of these files.

    `used_bytes` is the size of cameras.yaml. Raises `ConfigError` if the cameras of any file cannot be read.
    """
    include = tree.child("include")
    if include is None:
        return tree, []
    patterns, diagnostics = _patterns(include)
    if not patterns:
        return tree, diagnostics
    files = _IncludedFiles(path, used_bytes=used_bytes, size=tree.size)
    for name in _names(path, include, patterns):
        files.read(name, include)
        if files.is_full:
            break
    if files.fatal:
        raise ConfigError([*diagnostics, *files.problems])
    diagnostics += files.problems
    own = tree.child(_KEY)
    if own is not None and own.value is not None and not isinstance(own.value, list):
        return tree, diagnostics  # the models report `cameras` that is not a list
    own = own or YamlNode(None, include.line, include.column, include.file)
    cameras = replace(own, value=[*own.items, *files.cameras])
    return replace(tree, value={**tree.entries, _KEY: cameras}, size=files.size), diagnostics


def include_patterns(tree: YamlNode) -> tuple[IncludePattern, ...]:
    """Return the valid patterns in the tree of cameras.yaml."""
    include = tree.child("include")
    return () if include is None else tuple(_patterns(include)[0])


class OwnPaths:
    """Paths of values in their own files, for paths that lead to the values in a tree with all files' cameras."""

    def __init__(self, tree: YamlNode) -> None:
        cameras = tree.child(_KEY)
        counts: Counter[str | None] = Counter()
        self._indexes: list[int] = []  # index of each camera in its own file
        for camera in () if cameras is None else cameras.items:
            self._indexes.append(counts[camera.file])
            counts[camera.file] += 1

    def own(self, path: KeyPath) -> KeyPath:
        match path:
            case ("cameras", int(index), *rest) if index < len(self._indexes):
                return (_KEY, self._indexes[index], *rest)
        return path


class _IncludedFiles:
    """Cameras and problems of the included files that were read so far."""

    def __init__(self, path: Path, *, used_bytes: int, size: int) -> None:
        self.cameras: list[YamlNode] = []
        self.problems: list[Diagnostic] = []
        self.fatal = False  # whether the cameras of a file cannot be read
        self.is_full = False  # whether a limit of all files together is exceeded
        self.size = size  # number of values in all files, with aliases expanded
        self._path = path
        self._used_bytes = used_bytes

    def read(self, name: str, include: YamlNode) -> None:
        try:
            self._read(name, include)
        except ConfigError as error:
            self.problems += error.diagnostics
            self.fatal = True
            self.is_full = any(found.code in _LIMITS for found in error.diagnostics)

    def _read(self, name: str, include: YamlNode) -> None:
        if not name.isprintable():
            message = "matches a file whose name contains a control character or is not UTF-8"
            raise ConfigError([include.diagnostic("file_unreadable", message, ("include",), fix="rename the file")])
        file = self._path.parent / name
        _check_kind(file, self._path, include)
        text = read_text(
            file,
            max_bytes=max(0, MAX_FILE_BYTES - self._used_bytes),
            too_large=f"exceeds the maximum of {MAX_FILE_BYTES} bytes for {self._path.name} and its included files",
            if_missing="remove the link, or create the file that it points to",
        )
        self._used_bytes += len(text.encode())
        root, problems = read_tree(text, file=str(file))
        self.problems += problems
        if root is None:
            if problems:
                self.fatal = True
                return
            raise file_error(file, "file_empty", "is empty", "write `cameras:` with its cameras, or remove the file")
        self.size += root.size
        if self.size > MAX_NODES:
            message = f"{self._path.name} and its included files expand to more than {MAX_NODES} values"
            raise ConfigError([root.diagnostic("too_many_values", message)])
        self._add_cameras(root)

    def _add_cameras(self, root: YamlNode) -> None:
        if not root.is_mapping:
            message = "must consist of `cameras:` and a list of cameras"
            raise ConfigError([root.diagnostic("invalid_value", message)])
        for name, key in root.keys.items():
            if name != _KEY:
                message = f"unknown key in an included file{did_you_mean(name, [_KEY])}"
                fix = f"write only `cameras:` here, and all other sections in {self._path.name}"
                self.problems.append(key.diagnostic("unknown_key", message, (name,), fix=fix))
        cameras = root.child(_KEY)
        if cameras is None:
            fix = "add `cameras:` with a list of cameras"
            raise ConfigError([root.diagnostic("missing_key", "is missing", (_KEY,), fix=fix)])
        if cameras.value is not None and not isinstance(cameras.value, list):
            message = "must be a list: lines that begin with `- `, or [a, b]"
            raise ConfigError([cameras.diagnostic("invalid_value", message, (_KEY,))])
        self.cameras += cameras.items


def _patterns(include: YamlNode) -> tuple[list[IncludePattern], list[Diagnostic]]:
    """Return the valid patterns, and problems. The models report invalid patterns, but not references."""
    patterns, diagnostics = [], []
    for keys, node in include.scalars(("include",)):
        if node.text is None:
            continue
        if "${" in node.text:
            message, fix = "must not contain a reference", "write the pattern itself"
            diagnostics.append(node.diagnostic("invalid_reference", message, keys, fix=fix))
            continue
        try:
            patterns.append(IncludePattern.parse(node.text))
        except ValueError:
            continue
    return patterns[:MAX_PATTERNS], diagnostics  # the models reject a longer list


def _names(path: Path, include: YamlNode, patterns: list[IncludePattern]) -> list[str]:
    """Return the matching files. Raises `ConfigError`."""
    try:
        names = matching_files(path.absolute().parent, patterns)
    except OSError as error:
        message = f"the folder cannot be read: {error.strerror}"
        raise ConfigError([include.diagnostic("file_unreadable", message, ("include",))]) from error
    if len(names) > MAX_INCLUDED_FILES:
        message = f"matches more than {MAX_INCLUDED_FILES} files"
        raise ConfigError([include.diagnostic("too_many_files", message, ("include",), fix="combine some of them")])
    return names


def _check_kind(file: Path, main: Path, include: YamlNode) -> None:
    """Raise `ConfigError` for a file that is cameras.yaml itself or not a regular file. Follows links."""
    try:
        found, own = file.stat(), main.stat()
    except OSError:
        return  # `read_text` reports it
    if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
        fix = "move the included files into a folder of their own"
        message = f"matches {main.name} itself"
        raise ConfigError([include.diagnostic("includes_itself", message, ("include",), fix=fix)])
    if not stat.S_ISREG(found.st_mode):
        fix = "remove it, or write a pattern that does not match it"
        raise file_error(file, "file_unreadable", "is not a regular file", fix)
