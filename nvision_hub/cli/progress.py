"""A bar on stderr while things are done one after another; nothing where nobody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nvision_hub.cli.terminal import console

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


def progress(things: Iterable[T], total: int, name: str) -> Iterator[T]:
    """Pass `things` on, and show how many of `total` have come."""
    screen = console(stderr=True)
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(name, total=total)
        for thing in things:
            bar.advance(task)
            yield thing
