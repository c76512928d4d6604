"""A supervisor with real children. It runs in a separate process that prints its reports."""

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

from tests.support.patience import PATIENCE_S, is_on_time
from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROOT: Final = Path(__file__).parents[2]
STOP_S: Final = 10.0  # service managers send SIGKILL after this time


@dataclass(kw_only=True)
class Fleet(Server):
    """A running supervisor. `folder` is the working directory of its processes."""

    folder: Path
    children: list[dict[str, Any]]
    limits: dict[str, Any]
    process: subprocess.Popen[str] = field(init=False)
    records: list[dict[str, Any]] = field(default_factory=list)  # every output line, in order
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def start(self) -> None:
        """Start the supervisor and return before its first fork."""
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
        self.wait_until(lambda: bool(self.records))

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):  # `kill` has closed the pipe
            for line in self.process.stdout:
                with self._changed:
                    self.records.append(json.loads(line))
                    self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> float:
        """Wait until the condition is true. Return the seconds waited."""
        began = time.monotonic()
        with self._changed:
            while not condition():
                left_s = began + timeout_s - time.monotonic()
                assert left_s > 0, f"not within {timeout_s} s; {self.members}; the log:\n{self.log()[-5000:]}"
                self._changed.wait(min(left_s, 0.1))
        return time.monotonic() - began

    @property
    def shown(self) -> list[dict[str, Any]]:
        """All printed records of the children (`members`) and of the supervisor's own resources (`own`)."""
        return [line for line in self.records if "members" in line]

    @property
    def members(self) -> dict[str, Any]:
        """The children by name, from the last record."""
        return self.shown[-1]["members"] if self.shown else {}

    def pid(self, name: str) -> int | None:
        """Return a child's pid from the last record."""
        pid: int | None = self.members.get(name, {}).get("pid")
        return pid

    def ready(self) -> None:
        """Wait until every child is ready."""
        self.wait_until(lambda: bool(self.members) and all(m["ready"] for m in self.members.values()))

    def ready_pid(self, name: str) -> int:
        """Wait until a child is ready. Return its pid."""
        self.wait_until(lambda: bool(self.members.get(name, {}).get("ready")))
        pid = self.pid(name)
        assert pid is not None
        return pid

    def wait_for_replacement(self, name: str, old: int, timeout_s: float = PATIENCE_S) -> float:
        """Wait until a child is ready with a pid other than `old`. Return the seconds waited."""
        return self.wait_until(lambda: self.pid(name) not in {None, old} and self.members[name]["ready"], timeout_s)

    @property
    def log_file(self) -> Path:
        return self.folder / "fleet.log"

    def log(self) -> str:
        """Return the log of the supervisor and its children."""
        return self.log_file.read_text(encoding="utf-8")

    def lines(self, name: str) -> list[str]:
        """Return the log lines of a process without time and level."""
        found = (line.split(maxsplit=3) for line in self.log().splitlines())
        return [parts[3] for parts in found if len(parts) == 4 and parts[2] == name]

    def processes(self) -> list[psutil.Process]:
        """Return all processes with a working directory below `folder`: the supervisor and its descendants."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(self.folder):
                    found.append(process)
        return found

    def wait_until_gone(self, target_s: float) -> None:
        """Wait until no process is left. Check that this takes at most `target_s` (see `is_on_time`)."""
        began = time.monotonic()
        _, left = psutil.wait_procs(self.processes(), timeout=PATIENCE_S)
        assert not left
        assert is_on_time(time.monotonic() - began, target_s)

    def stop_with(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a stop signal. Return the seconds until the exit."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        took_s = time.monotonic() - began
        self._listener.join(PATIENCE_S)
        assert code == 0, self.log()
        assert self.records[-1] == {"stopped_by": number.name}
        return took_s


@pytest.fixture
def start_fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Start a supervisor, as in `start_fleet({"a": "steady", "b": ("logs_secrets", "some text", 1)}, drain_s=1.0)`.

    A child is the name of its entry point, or a tuple of this name, the settings and the stage. Other keywords are
    limits.
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
