"""One thing wrong with cameras.yaml, and where. Owns how places and problems are written, and knows no rule."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from nvision_hub.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Loc = tuple[str | int, ...]  # ("cameras", 0, "url")

_NAME: Final = re.compile(r"[\w.-]{1,64}")


class Place(NamedTuple):
    """Where in the file; both count from 1."""

    line: int
    column: int


WHOLE_FILE: Final = Place(0, 0)


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Problem:
    """A sentence, its place in the file and the key that it is about, as `loc_shown` writes it."""

    place: Place = WHOLE_FILE
    loc: str = ""
    sentence: str


def key_shown(key: str) -> str:
    """A key for people. Keys are the user's text: `password:hunter2`, a space forgotten, is one too."""
    if _NAME.fullmatch(key):
        return key
    beginning = re.match(r"[\w.-]{0,32}", key)
    return f"{beginning[0] if beginning else ''}…"


def loc_shown(loc: Loc) -> str:
    """`cameras[0].url`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{key_shown(part)}" for part in loc)
    return "".join(parts).removeprefix(".")


def config_error(path: Path, problems: Iterable[Problem]) -> ConfigError:
    """All of them as one error, a line each, in the order of the file."""
    lines = []
    told: set[tuple[Place, str]] = set()
    for problem in sorted(problems):
        about = (problem.place, problem.sentence)
        if about in told:
            continue  # what is wrong in `defaults` is wrong for every camera, and told once
        told.add(about)
        line, column = problem.place
        where = f"{path}" if problem.place == WHOLE_FILE else f"{path}:{line}:{column}"
        lines.append(": ".join(part for part in (where, problem.loc, problem.sentence) if part))
    return ConfigError(lines)
