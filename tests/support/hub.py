"""A real hub in a process of its own, with its own broker, and all that its supervisor knows of its children."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from tests.support.recorder import KEY
from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.recorder import Recorder

_ROOT: Final = Path(__file__).parents[2]
_START_S: Final = 30.0
STOP_S: Final = 12.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraNow:
    """One camera at the last report. `metrics` holds its counters and gauges, labels flattened into the name."""

    state: str
    error: str | None
    pid: int | None
    restarts: int
    metrics: dict[str, float]
    row: dict[str, Any]

    def total(self, metric: str) -> float:
        """A counter's sum over all labels."""
        return sum(value for name, value in self.metrics.items() if name.partition("{")[0] == metric)


@dataclass(kw_only=True)
class Hub(Server):
    """A running hub. Every method reads what has been reported; the supervisor reports twice a second."""

    folder: Path
    prefix: Sequence[str] = ()  # a command that starts it in surroundings of its making, and becomes it
    env: Mapping[str, str] = field(default_factory=dict)  # on top of this process's
    # Called with the members, as reported, at each report.
    heard: Callable[[dict[str, Any]], None] = lambda _members: None
    process: subprocess.Popen[str] = field(init=False)
    addresses: dict[str, Any] = field(default_factory=dict)
    _members: dict[str, Any] = field(default_factory=dict)
    _states: list[tuple[float, str, str]] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False

    def start(self) -> None:
        with (self.folder / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "tests.support.hub_program", self.folder / "cameras.yaml"],
                cwd=_ROOT,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._listen, daemon=True).start()
        self.wait_until(lambda: bool(self._members), _START_S)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            with self._news:
                self.addresses = told.get("addresses", self.addresses)
                self.heard(told.get("members", {}))
                for name, member in told.get("members", {}).items():
                    self._members[name] = member
                    state = (member["status"] or {}).get("state")
                    known = next((old for _, who, old in reversed(self._states) if who == name), None)
                    if state is not None and state != known:
                        self._states.append((time.monotonic(), name, state))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_until(self, condition: Callable[[], bool], deadline_s: float = _START_S) -> None:
        """Wait for news until the condition holds; fails after `deadline_s`, with what is known and logged then."""
        with self._news:
            met = self._news.wait_for(lambda: condition() or self._ended, deadline_s)
            if not (met and condition()):
                known = "\n".join(f"{name}: {self.camera(name.partition(':')[2])}" for name in self._members)
                raise AssertionError(f"not met within {deadline_s} s; known:\n{known}\nlogged:\n{self.log()}")

    def wait_for_state(
        self, camera: str, state: str, deadline_s: float = _START_S, *, since: float = float("-inf")
    ) -> float:
        """The moment (CLOCK_MONOTONIC, after `since`) at which a camera was first seen in a state; waits for it."""

        def moments() -> list[float]:
            name = f"camera:{camera}"
            return [at for at, who, seen in list(self._states) if who == name and seen == state and at > since]

        self.wait_until(lambda: bool(moments()), deadline_s)
        return moments()[0]

    def wait_for_results(self, camera: str, count: int, deadline_s: float = _START_S) -> None:
        """Wait until so many of a camera's results have been published, by its worker's own count."""
        self.wait_until(lambda: self.camera(camera).total("results_published_total") >= count, deadline_s)

    def status(self, camera: str) -> dict[str, Any]:
        """A camera's last status as it was reported; empty before its first."""
        status: dict[str, Any] = self._members.get(f"camera:{camera}", {}).get("status") or {}
        return status

    def camera(self, camera: str) -> CameraNow:
        """What is known of a camera now; all zero and `starting` before its first report."""
        member = self._members.get(f"camera:{camera}", {})
        status = self.status(camera)
        metrics = {}
        for name, labels, value in (
            *status.get("metrics", {}).get("counters", ()),
            *status.get("metrics", {}).get("gauges", ()),
        ):
            shown = ",".join(f"{key}={text}" for key, text in sorted(labels.items()))
            metrics[f"{name}{{{shown}}}" if shown else name] = value
        return CameraNow(
            state=status.get("state", "starting"),
            error=status.get("error"),
            pid=member.get("pid"),
            restarts=member.get("restarts", 0),
            metrics=metrics,
            row=status.get("row", {}),
        )

    def members(self) -> list[str]:
        """The names of all children."""
        return list(self._members)

    def restarts(self) -> dict[str, int]:
        """How often each child has been started again."""
        return {name: member["restarts"] for name, member in self._members.items()}

    def pid(self, name: str) -> int | None:
        """The process of a child, None while it has none."""
        pid: int | None = self._members.get(name, {}).get("pid")
        return pid

    def member_pid(self, name: str) -> int:
        """The process of a child that lives."""
        pid = self._members[name]["pid"]
        assert isinstance(pid, int)
        return pid

    def change(self, cameras: Sequence[dict[str, Any]]) -> None:
        """Put other cameras into its cameras.yaml, in one step."""
        file = self.folder / "cameras.yaml"
        content = json.loads(file.read_text(encoding="utf-8")) | {"cameras": list(cameras)}
        new = file.with_suffix(".new")
        new.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        new.replace(file)

    def states(self, camera: str) -> list[str]:
        """The states that a camera has been seen in, in order."""
        return [state for _, name, state in list(self._states) if name == f"camera:{camera}"]

    def log(self) -> str:
        """Everything that the hub and its children have logged."""
        return (self.folder / "hub.log").read_text(encoding="utf-8")

    def redis(self) -> redis.Redis:
        """A client of its broker, once that answers. Its connection has to be closed."""
        self.wait_until(lambda: ((self._members.get("broker") or {}).get("status") or {}).get("ready", False))
        return redis.Redis.from_url(self.addresses["redis"], decode_responses=True)

    def gateway(self) -> str:
        """Its gateway's address, once that answers there."""
        self.wait_until(lambda: ((self._members.get("gateway") or {}).get("status") or {}).get("ready", False))
        return str(self.addresses["gateway"])

    def events(self, camera: str | None = None) -> list[dict[str, Any]]:
        """The events in its result stream, oldest first, of one camera or of all."""
        with self.redis() as client:
            entries: Any = client.xrange("nvision:results")
        events = [(fields["camera"], json.loads(fields["event"])) for _, fields in entries]
        return [event for name, event in events if camera in {None, name}]

    def stop(self) -> int:
        """Ask it to end, and wait; its exit code."""
        self.process.terminate()
        code = self.process.wait(STOP_S)
        with self._news:
            self._news.wait_for(lambda: self._ended, STOP_S)
        return code


def write(
    folder: Path,
    cameras: Sequence[dict[str, Any]],
    service: Recorder | None,
    *,
    gateway: bool | dict[str, Any] = False,
    **more: Any,
) -> None:
    """A cameras.yaml (JSON is YAML): an embedded broker on any port; the local service where `service` is None.

    `gateway` True is one on any port, without a token.
    """
    nvision = {"url": "local"} if service is None else {"url": service.url, "streaming_key": KEY}
    content = {
        "version": 1,
        "site": "test",
        "nvision": nvision,
        "redis": {"url": "embedded", "embedded_port": 0},
        "gateway": gateway if isinstance(gateway, dict) else {"listen": "127.0.0.1:0" if gateway else "none"},
        "state_dir": str(folder / "state"),
        "cameras": list(cameras),
        **more,
    }
    (folder / "cameras.yaml").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def start_hub(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Start a hub: `start_hub([{"id": "lobby", "url": ...}], recorder)`; `prefix` and `env` are those of `Hub`.

    It has a gateway where asked for: `start_hub(cameras, recorder, gateway=True)`.
    """
    started: list[Hub] = []

    def start(
        cameras: Sequence[dict[str, Any]],
        service: Recorder | None,
        *,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Hub:
        folder = tmp_path / f"hub{len(started)}"
        folder.mkdir(exist_ok=True)
        write(folder, cameras, service, **more)
        hub = Hub(folder=folder, prefix=prefix, env=env or {})
        started.append(hub)
        hub.start()
        return hub

    yield start
    for hub in started:
        end(hub)


def end(hub: Hub) -> None:
    """End a hub however it goes: asked, then killed."""
    try:
        hub.stop()
    finally:
        hub.kill()
