"""What a part of cameras.yaml asks of the place where it will run: variables and files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain, count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from nvision_hub.config.variables import REFERENCE
from nvision_hub.render.manuscript import rewritten

if TYPE_CHECKING:
    from nvision_hub.config.problem import Loc
    from nvision_hub.config.tree import Mapping, Scalar

_NO_KEY: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class References:
    """`variables` says of each whether it must be there, which it need not where each use of it has a default."""

    variables: dict[str, bool]
    files: tuple[str, ...]  # paths as written


def references(tree: Mapping) -> References:
    """All that a tree refers to, in alphabetical order."""
    variables: dict[str, bool] = {}
    files: set[str] = set()
    for _, scalar in tree.scalars():
        for found in REFERENCE.finditer(scalar.text or ""):
            if name := found["name"]:
                variables[name] = variables.get(name, False) or found["default"] is None
            elif found["file"]:
                files.add(found["file"])
    return References(variables=dict(sorted(variables.items())), files=tuple(sorted(files)))


def file_keys(files: tuple[str, ...]) -> dict[str, str]:
    """A short name for each file, no two alike, of what a key of a Secret may hold: its own where that will do."""
    names: dict[str, str] = {}
    for file in files:
        name = _NO_KEY.sub("-", PurePosixPath(file).name).strip("-.") or "file"
        free = next(it for it in chain([name], (f"{name}-{n}" for n in count(2))) if it not in names.values())
        names[file] = free
    return names


def with_files_at(tree: Mapping, places: dict[str, str]) -> Mapping:
    """The tree with other paths for its files."""

    def change(_loc: Loc, scalar: Scalar) -> str | None:
        def moved(match: re.Match[str]) -> str:
            return f"${{file:{places[match['file']]}}}" if match["file"] else match[0]

        return None if scalar.text is None else REFERENCE.sub(moved, scalar.text)

    return rewritten(tree, change)
