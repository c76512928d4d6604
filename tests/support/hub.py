"""A real hub in a separate process with its own broker, and the supervisor's reports on its children."""

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

from nvision_hub.broker.embedded_config import PASSWORDS_NAME, user_url
from nvision_hub.broker.embedded_users import BrokerUser, load_passwords
from tests.support.patience import PATIENCE_S
from tests.support.recorder import KEY
from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.recorder import Recorder

_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraNow:
    """One camera in the last report. `metrics` contains its counters and gauges. The names include the labels."""

    state: str
    error: str | None
    pid: int | None
    restarts: int
    metrics: dict[str, float]
    info: dict[str, Any]

    def total(self, metric: str) -> float:
        """Return a counter's sum over all labels."""
        return sum(value for name, value in self.metrics.items() if name.partition("{")[0] == metric)


@dataclass(kw_only=True)
class Hub(Server):
    """Running hub. Methods use the last report. The supervisor reports twice a second."""

    folder: Path
    prefix: Sequence[str] = ()  # command that prepares the environment and then executes the hub
    env: Mapping[str, str] = field(default_factory=dict)  # additions to this process's environment
    # Called with the reported children at each report.
    on_report: Callable[[dict[str, Any]], None] = lambda _members: None
    process: subprocess.Popen[str] = field(init=False)
    addresses: dict[str, Any] = field(default_factory=dict)
    _members: dict[str, Any] = field(default_factory=dict)
    _states: list[tuple[float, str, str]] = field(default_factory=list)
    _updated: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False
    _listener: threading.Thread | None = None

    def start(self) -> None:
        """Start the hub, or restart it after its end."""
        if self._listener is not None:
            self._listener.join(PATIENCE_S)
            self._ended, self._members = False, {}
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
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.wait_until(lambda: bool(self._members), PATIENCE_S)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            record = json.loads(line)
            with self._updated:
                self.addresses = record.get("addresses", self.addresses)
                self.on_report(record.get("members", {}))
                for name, member in record.get("members", {}).items():
                    self._members[name] = member
                    state = (member["status"] or {}).get("state")
                    known = next((old for _, who, old in reversed(self._states) if who == name), None)
                    if state is not None and state != known:
                        self._states.append((time.monotonic(), name, state))
                self._updated.notify_all()
        with self._updated:
            self._ended = True
            self._updated.notify_all()

    def wait_until(self, condition: Callable[[], bool], deadline_s: float = PATIENCE_S) -> None:
        """Wait until the condition is true. After `deadline_s`, fail with the last report and the log."""
        with self._updated:
            met = self._updated.wait_for(lambda: condition() or self._ended, deadline_s)
            if not (met and condition()):
                known = "\n".join(f"{name}: {self.camera(name.partition(':')[2])}" for name in self._members)
                raise AssertionError(f"not met within {deadline_s} s; known:\n{known}\nlogged:\n{self.log()}")

    def wait_for_state(
        self, camera: str, state: str, deadline_s: float = PATIENCE_S, *, since: float = float("-inf")
    ) -> float:
        """Wait until a camera enters a state after `since`. Return the time of the change (CLOCK_MONOTONIC)."""

        def moments() -> list[float]:
            name = f"camera:{camera}"
            return [at for at, who, seen in list(self._states) if who == name and seen == state and at > since]

        self.wait_until(lambda: bool(moments()), deadline_s)
        return moments()[0]

    def wait_for_results(self, camera: str, count: int, deadline_s: float = PATIENCE_S) -> None:
        """Wait until a camera's worker has counted this many published results."""
        self.wait_until(lambda: self.camera(camera).total("results_published_total") >= count, deadline_s)

    def status(self, camera: str) -> dict[str, Any]:
        """Return a camera's last reported status; empty before the first report."""
        status: dict[str, Any] = self._members.get(f"camera:{camera}", {}).get("status") or {}
        return status

    def camera(self, camera: str) -> CameraNow:
        """Return a camera's last report. Before the first report, the state is `starting` and all numbers are 0."""
        member = self._members.get(f"camera:{camera}", {})
        status = self.status(camera)
        return CameraNow(
            state=status.get("state", "starting"),
            error=status.get("error"),
            pid=member.get("pid"),
            restarts=member.get("restarts", 0),
            metrics=self.metrics(f"camera:{camera}"),
            info=status.get("info") or {},
        )

    def metrics(self, name: str) -> dict[str, float]:
        """Return the counters and gauges from the last report of a child. The names include the labels."""
        reported = ((self._members.get(name) or {}).get("status") or {}).get("metrics", {})
        metrics = {}
        for metric, labels, value in (*reported.get("counters", ()), *reported.get("gauges", ())):
            shown = ",".join(f"{key}={text}" for key, text in sorted(labels.items()))
            metrics[f"{metric}{{{shown}}}" if shown else metric] = value
        return metrics

    def members(self) -> list[str]:
        """Return the names of all children."""
        return list(self._members)

    def restarts(self) -> dict[str, int]:
        """Return the number of restarts of each child."""
        return {name: member["restarts"] for name, member in self._members.items()}

    def pid(self, name: str) -> int | None:
        """Return the pid of a child; None while it does not run."""
        pid: int | None = self._members.get(name, {}).get("pid")
        return pid

    def member_pid(self, name: str) -> int:
        """Return the pid of a running child."""
        pid = self._members[name]["pid"]
        assert isinstance(pid, int)
        return pid

    def change(self, cameras: Sequence[dict[str, Any]]) -> None:
        """Replace the cameras in the hub's cameras.yaml atomically."""
        file = self.folder / "cameras.yaml"
        content = json.loads(file.read_text(encoding="utf-8")) | {"cameras": list(cameras)}
        new = file.with_suffix(".new")
        new.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        new.replace(file)

    def states(self, camera: str) -> list[str]:
        """Return the observed states of a camera in order."""
        return [state for _, name, state in list(self._states) if name == f"camera:{camera}"]

    def log(self) -> str:
        """Return the log of the hub and its children."""
        return (self.folder / "hub.log").read_text(encoding="utf-8")

    def redis(self, user: str = "hub") -> redis.Redis:
        """Return a client of the hub's broker after the broker responds. The caller closes the client.

        The client has the rights of `user`. The user `hub` connects to the socket in state_dir, and other users to TCP.
        """
        return redis.Redis.from_url(self.broker_url(user), decode_responses=True)

    def broker_url(self, user: str = "hub") -> str:
        """Return the broker's URL for `hub`, `reader` or `consumer`, including the password, once it responds."""
        self.wait_until(lambda: ((self._members.get("broker") or {}).get("status") or {}).get("ready", False))
        return str(self.addresses[user])

    def gateway(self) -> str:
        """Return the gateway's URL after the gateway responds."""
        self.wait_until(lambda: ((self._members.get("gateway") or {}).get("status") or {}).get("ready", False))
        return str(self.addresses["gateway"])

    def events(self, camera: str | None = None, *, user: str = "hub") -> list[dict[str, Any]]:
        """Return the events in the hub's result stream, for one camera or for all cameras, oldest first."""
        with self.redis(user) as client:
            entries: Any = client.xrange("nvision:results")
        events = [(fields["camera"], json.loads(fields["event"])) for _, fields in entries]
        return [event for name, event in events if camera in {None, name}]

    def stop(self) -> int:
        """Stop the hub. Return its exit code."""
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        with self._updated:
            self._updated.wait_for(lambda: self._ended, PATIENCE_S)
        return code


def broker_url(state: Path, user: BrokerUser = BrokerUser.HUB) -> str:
    """Return the broker URL of the hub with this state_dir, including the password of `user`.

    The broker may not listen yet.
    """
    deadline = time.monotonic() + PATIENCE_S
    while (passwords := load_passwords(state / "broker" / PASSWORDS_NAME)) is None:
        assert time.monotonic() < deadline, f"no passwords in {state}"
        time.sleep(0.02)
    return user_url(json.loads((state / "hub.json").read_text(encoding="utf-8"))["redis"], user, passwords)


def write(
    folder: Path,
    cameras: Sequence[dict[str, Any]],
    service: Recorder | None,
    *,
    gateway: bool | dict[str, Any] = False,
    **more: Any,
) -> None:
    """Write a cameras.yaml (as JSON) with an embedded broker on a free port. Without a `service`, use the local one.

    If `gateway` is True, the hub has a gateway on a free port, without a token.
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
    """Start a hub: `start_hub([{"id": "lobby", "url": ...}], recorder)`. `prefix` and `env` are the fields of `Hub`.

    Start a hub with a gateway: `start_hub(cameras, recorder, gateway=True)`.
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
    """Stop a hub. Kill the hub if the stop fails."""
    try:
        hub.stop()
    finally:
        hub.kill()
