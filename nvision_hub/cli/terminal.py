"""Terminal output that the commands share: consoles, JSON and formatted values."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.segment import Segment

from nvision_hub.control_characters import escape_json, printable, replace_control_characters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import ConsoleOptions, RenderableType

_DURATION_UNITS: Final = (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0))


class PrintableConsole(Console):
    """Console that replaces control characters in all text, so only the console's own styles control the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(replace_control_characters(segment.text), segment.style)


def console(*, stderr: bool = False) -> Console:
    """Return a console that adds only explicit styles. With NO_COLOR or without a terminal, the console adds no styles.

    The console leaves the wrapping of long lines to the terminal. Copied text therefore contains no extra line breaks.
    """
    return PrintableConsole(
        file=sys.stderr if stderr else sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print one JSON value and flush stdout. With `indent=None`, print the value on a single line."""
    print(escape_json(json.dumps(value, indent=indent, ensure_ascii=False)), flush=True)


def local_time(at: object) -> str:
    """Format the timestamp of a log entry in this machine's time zone. Return any other text unchanged."""
    text = printable(str(at))
    with contextlib.suppress(ValueError, OverflowError):
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"
    return text


def columns(rows: Iterable[Sequence[str]], gap: str = "  ") -> list[str]:
    """Format rows of equal length as lines. Each column is as wide as its longest string."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [gap.join(map(str.ljust, row, widths)).rstrip() for row in rows]


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: `1 camera`, `2 cameras`, `2 deliveries`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("ry") else f"{count} {noun}s"


def format_names(names: Iterable[str]) -> str:
    """Format names with their counts, most frequent first: `2 person, car`."""
    counts = Counter(map(printable, names)).most_common()
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in counts)


def format_duration(seconds: float) -> str:
    """Format a duration in its largest useful unit: `0.2 s`, `45 s`, `12 min`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:  # noqa: PLR2004 - below 10 s a tenth of a second is worth showing
        return f"{seconds:.1f} s"
    unit, factor = next((u, f) for u, f in reversed(_DURATION_UNITS) if seconds >= 2 * f or f == 1)
    return f"{seconds / factor:.0f} {unit}"
