"""References in the plain data of a cameras.yaml: environment variables (`${NAME}`) and files (`${file:PATH}`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain, count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.config.variables import REFERENCE
from nvision_hub.export.yaml_writer import map_texts

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOT_IN_KEY: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class SecretRefs:
    """Variables and files that a configuration refers to, in alphabetical order."""

    variables: dict[str, bool]  # by name; True if the variable is required, False if every use has a default
    files: tuple[str, ...]  # paths as written


def references(data: Any) -> SecretRefs:
    """Collect the references in all strings of `data`."""
    variables: dict[str, bool] = {}
    files: set[str] = set()

    def collect(text: str) -> str:
        for found in REFERENCE.finditer(text):
            if name := found["name"]:
                variables[name] = variables.get(name, False) or found["default"] is None
            elif found["file"]:
                files.add(found["file"])
        return text

    map_texts(data, collect)
    return SecretRefs(variables=dict(sorted(variables.items())), files=tuple(sorted(files)))


def file_keys(files: Iterable[str]) -> dict[str, str]:
    """Map each file to a unique key that is valid in a Secret, if possible the name of the file."""
    keys: dict[str, str] = {}
    for file in files:
        name = _NOT_IN_KEY.sub("-", PurePosixPath(file).name).strip("-.") or "file"
        keys[file] = first_free(name, keys.values(), separator="-")
    return keys


def first_free(name: str, used: Iterable[str], *, separator: str) -> str:
    """Return `name`. If `used` contains it, return `name` with the lowest free number from 2."""
    taken = {*used}
    return next(it for it in chain([name], (f"{name}{separator}{n}" for n in count(2))) if it not in taken)


def with_file_paths(data: Any, paths: dict[str, str]) -> Any:
    """Return a copy of `data` in which `paths` maps the old path of each file reference to the new path."""

    def moved(match: re.Match[str]) -> str:
        return f"${{file:{paths[match['file']]}}}" if match["file"] else match[0]

    return map_texts(data, lambda text: REFERENCE.sub(moved, text))
