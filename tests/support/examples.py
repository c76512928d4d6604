"""Run the programs in docs/examples as separate processes, with their dependencies installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support import command, needs, npm
from tests.support.command import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDER: Final = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def start_example() -> Iterator[Callable[..., Running]]:
    """Start an example: `start_example("consume.py", "results.db", redis=url, cwd=tmp_path)`."""
    started: list[Running] = []

    def start(name: str, *arguments: object, cwd: Path, **environment: Any) -> Running:
        words: Sequence[str]
        if name.endswith(".py"):
            words = [sys.executable]
        else:
            words = [needs.program("node", "nodejs npm")]
            npm.install(FOLDER)
        process = subprocess.Popen(
            [*words, str(FOLDER / name), *map(str, arguments)],
            cwd=cwd,
            env=command.environment({key.upper(): str(value) for key, value in environment.items()}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        running = Running(process=process, master=None)
        running.listen("out", process.stdout.fileno())
        running.listen("err", process.stderr.fileno())
        started.append(running)
        return running

    yield start
    for running in started:
        running.close()
