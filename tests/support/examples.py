"""The programs of docs/examples as their readers run them: processes of their own, with what they import installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support import command, needs
from tests.support.command import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDER: Final = Path(__file__).parents[2] / "docs" / "examples"
_INSTALL_S: Final = 120


def install() -> None:
    """Have npm bring what the JavaScript examples import, where it is not there in the version they ask for."""
    modules = FOLDER / "node_modules"
    wanted: dict[str, str] = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))["dependencies"]
    if all(_major(modules / name) == wish.lstrip("^").split(".")[0] for name, wish in wanted.items()):
        return
    npm = needs.program("npm", "nodejs npm")
    install = [npm, "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    if subprocess.run(install, cwd=FOLDER, timeout=_INSTALL_S, check=False).returncode:
        needs.missing("npm could not install what docs/examples imports; it needs the network once")


def _major(module: Path) -> str | None:
    package = module / "package.json"
    return json.loads(package.read_text(encoding="utf-8"))["version"].split(".")[0] if package.exists() else None


@pytest.fixture
def start_example() -> Iterator[Callable[..., Running]]:
    """Start one: `start_example("consume.py", "results.db", redis=url, cwd=tmp_path)`."""
    started: list[Running] = []

    def start(name: str, *arguments: object, cwd: Path, **environment: Any) -> Running:
        words: Sequence[str]
        if name.endswith(".py"):
            words = [sys.executable]
        else:
            words = [needs.program("node", "nodejs npm")]
            install()
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
