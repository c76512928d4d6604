"""What every verb that writes to a terminal shares: the console, and texts from elsewhere made harmless."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterable

_SECONDS_SHOWN: Final = (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0))
_SIZES_SHOWN: Final = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def console(*, stderr: bool = False) -> Console:
    """A console that colours only what is meant to be, and nothing where NO_COLOR or no terminal is.

    Lines longer than the terminal are left to it, so that what is copied from there has no breaks in it.
    """
    return Console(
        file=sys.stderr if stderr else sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def harmless(text: str) -> str:
    """`text` without what a terminal would obey: names come from a service, and sentences quote cameras."""
    return "".join(character if character.isprintable() else "?" for character in text)


def counted(names: Iterable[str]) -> str:
    """`2 person, car`: the most frequent first."""
    tally = Counter(map(harmless, names)).most_common()
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in tally)


def ago(seconds: float) -> str:
    """A duration at a glance: `0.2 s`, `45 s`, `12 min`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:  # noqa: PLR2004 - below it a tenth is worth showing
        return f"{seconds:.1f} s"
    unit, size = next((u, s) for u, s in reversed(_SECONDS_SHOWN) if seconds >= 2 * s or s == 1)
    return f"{seconds / size:.0f} {unit}"


def size(count: float) -> str:
    """Bytes at a glance: `812 B`, `1.4 MB`, `120 GB`."""
    for unit, factor in _SIZES_SHOWN:
        if count >= factor:
            return f"{count / factor:.0f} {unit}" if count >= 10 * factor else f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"
