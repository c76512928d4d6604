"""Ray cluster and engine drivers for tests."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support import needs
from tests.support.command import environment
from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROOT: Final = Path(__file__).parents[2]
_REPLY_TIMEOUT_S: Final = 240.0  # long enough for all attempts to start a node


@dataclass(kw_only=True)
class RayCluster(Server):
    """A head node without CPUs, and the nodes added to it, all on loopback."""

    folder: Path
    # If None, the cluster requires no authentication.
    token: str | None = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    address: str = ""
    process: subprocess.Popen[str] = field(init=False)

    @property
    def env(self) -> dict[str, str]:
        """Environment of drivers that use this cluster."""
        mode = {"RAY_AUTH_MODE": "disabled"} if self.token is None else {"RAY_AUTH_MODE": "token"}
        return {
            **mode,
            **({} if self.token is None else {"RAY_AUTH_TOKEN": self.token}),
            # Otherwise, Ray would replace loopback with the machine's network address, on which this cluster does not
            # listen.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "XDG_STATE_HOME": str(self.folder / "state"),
        }

    def start(self) -> None:
        """Start the process."""
        with (self.folder / "cluster.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.ray_cluster_program"],
                cwd=_ROOT,
                env=environment(self.env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.address = self._reply()["address"]

    def add(self, name: str, *, cpus: int = 8, **labels: str) -> str:
        """Add a node and return its id."""
        node: str = self.command({"add": name, "labels": labels, "cpus": cpus})["node"]
        return node

    def remove(self, name: str) -> None:
        """Kill a node with all its processes."""
        self.command({"remove": name})

    def status(self, group: str, site: str = "test") -> dict[str, Any]:
        """Return the status of a group's actor; {"error": ...} if the actor does not answer."""
        return self.command({"status": f"{site}/{group}"})

    def command(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send a command and return its reply."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._reply()

    def close(self) -> None:
        """End the cluster."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(_REPLY_TIMEOUT_S)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], _REPLY_TIMEOUT_S)
        line = self.process.stdout.readline() if readable else ""
        assert line, (self.folder / "cluster.log").read_text(encoding="utf-8")[-3000:]
        reply: dict[str, Any] = json.loads(line)
        return reply


@dataclass(kw_only=True)
class EngineDriver:
    """A process of `nvision-hub start --engine ray`."""

    cluster: RayCluster
    config: Path
    log_file: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, *options: str) -> None:
        """Start the process."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nvision_hub", "start", self.config, "--engine", "ray",
                 "--address", self.cluster.address, *options],
                env=environment(self.cluster.env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )  # fmt: skip

    def log(self) -> str:
        """Return the log of this driver and of all previous drivers."""
        return self.log_file.read_text(encoding="utf-8")

    def wait_until_settled(self, times: int, timeout_s: float = _REPLY_TIMEOUT_S) -> None:
        """Wait until the log has reported `times` times that all groups run their current configuration."""
        deadline = time.monotonic() + timeout_s
        while self.log().count("all groups run") < times:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def end(self) -> int:
        """Send SIGINT and return the exit code."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGINT)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RayCluster]]:
    """Start a cluster: `ray_cluster()`, `ray_cluster(token=None)`."""
    if importlib.util.find_spec("ray") is None:
        needs.missing("Ray is not installed; `pip install 'nvision-hub[ray]'` installs it")
    started: list[RayCluster] = []

    def start(**options: Any) -> RayCluster:
        cluster = RayCluster(folder=tmp_path_factory.mktemp("ray"), **options)
        started.append(cluster)
        cluster.start()
        return cluster

    yield start
    for cluster in started:
        cluster.close()
