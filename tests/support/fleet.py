"""A real supervisor in a process of its own, over real children, and all that it knows of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest

from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROOT: Final = Path(__file__).parents[2]
_SOON_S: Final = 10.0  # generous: machines are shared
STOP_S: Final = 10.0  # what process managers grant


@dataclass(kw_only=True)
class Fleet(Server):
    """A running supervisor. Everything below it has its working directory in `folder`."""

    folder: Path
    children: list[dict[str, Any]]
    limits: dict[str, Any]
    process: subprocess.Popen[str] = field(init=False)
    told: list[dict[str, Any]] = field(default_factory=list)  # every line, in order
    _news: threading.Condition = field(default_factory=threading.Condition)

    def start(self) -> None:
        """Start it and return once it is about to fork."""
        plan = {"children": self.children, "limits": self.limits}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.support.fleet_program", json.dumps(plan)],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(_ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.wait_until(lambda: bool(self.told), 30.0)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):  # closed by `kill`
            for line in self.process.stdout:
                with self._news:
                    self.told.append(json.loads(line))
                    self._news.notify_all()

    def wait_until(self, condition: Callable[[], bool], within_s: float = _SOON_S) -> float:
        """Wait for news until the condition holds; how long that took."""
        began = time.monotonic()
        with self._news:
            while not condition():
                left_s = began + within_s - time.monotonic()
                assert left_s > 0, f"not within {within_s} s; {self.members}; the log:\n{self.log()[-5000:]}"
                self._news.wait(min(left_s, 0.1))
        return time.monotonic() - began

    @property
    def shown(self) -> list[dict[str, Any]]:
        """Every showing of the members: `members` and `own`, what the supervisor itself used."""
        return [line for line in self.told if "members" in line]

    @property
    def members(self) -> dict[str, Any]:
        """The last showing's members, by name."""
        return self.shown[-1]["members"] if self.shown else {}

    def pid(self, name: str) -> int | None:
        """A member's process, as last shown."""
        pid: int | None = self.members.get(name, {}).get("pid")
        return pid

    def ready(self) -> None:
        """Wait until every member is ready."""
        self.wait_until(lambda: bool(self.members) and all(m["ready"] for m in self.members.values()))

    def ready_pid(self, name: str) -> int:
        """Wait until a member is ready; its process."""
        self.wait_until(lambda: bool(self.members.get(name, {}).get("ready")))
        pid = self.pid(name)
        assert pid is not None
        return pid

    def replaced(self, name: str, old: int, within_s: float = _SOON_S) -> float:
        """Wait until a member is ready with another process than `old`; how long that took."""
        return self.wait_until(lambda: self.pid(name) not in {None, old} and self.members[name]["ready"], within_s)

    @property
    def log_file(self) -> Path:
        return self.folder / "fleet.log"

    def log(self) -> str:
        """Everything that the supervisor and its children have logged."""
        return self.log_file.read_text(encoding="utf-8")

    def lines(self, name: str) -> list[str]:
        """What a process has logged, without time and level."""
        found = (line.split(maxsplit=3) for line in self.log().splitlines())
        return [parts[3] for parts in found if len(parts) == 4 and parts[2] == name]

    def processes(self) -> list[psutil.Process]:
        """Everything that runs below `folder`: the supervisor, its children, and theirs."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(self.folder):
                    found.append(process)
        return found

    def gone(self, within_s: float) -> None:
        """Wait until nothing of it is left."""
        _, left = psutil.wait_procs(self.processes(), timeout=within_s)
        assert not left

    def ask_to_stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Ask it to end; how long that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(30)
        took_s = time.monotonic() - began
        self._listener.join(_SOON_S)
        assert code == 0, self.log()
        assert self.told[-1] == {"stopped_by": number.name}
        return took_s


@pytest.fixture
def start_fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Start a supervisor: `start_fleet({"a": "steady", "b": ("tells", "some text", 1)}, drain_s=1.0)`.

    A child is its entry's name, or that with settings and stage; keywords are the supervisor's limits.
    """
    started: list[Fleet] = []
    numbers = itertools.count()

    def start(children: dict[str, str | tuple[Any, ...]], **limits: Any) -> Fleet:
        folder = tmp_path / f"fleet{next(numbers)}"
        folder.mkdir()
        plan = []
        for name, given in children.items():
            entry, settings, stage = (given, None, 0) if isinstance(given, str) else (*given, 0)[:3]
            plan.append({"name": name, "entry": entry, "settings": settings, "stage": stage})
        fleet = Fleet(folder=folder, children=plan, limits=limits)
        started.append(fleet)
        fleet.start()
        return fleet

    yield start
    for fleet in started:
        fleet.kill()
        for process in fleet.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
