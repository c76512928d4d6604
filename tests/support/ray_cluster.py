"""A Ray cluster, and drivers of the engine: as tests hold them."""

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
_ANSWERS_S: Final = 120.0


@dataclass(kw_only=True)
class RayCluster(Server):
    """Its head, without CPUs, and nodes as they are added; all on loopback."""

    folder: Path
    token: str | None = field(default_factory=lambda: secrets.token_hex(32), repr=False)  # None: lets anybody in
    address: str = ""
    process: subprocess.Popen[str] = field(init=False)

    @property
    def env(self) -> dict[str, str]:
        """What a driver of it needs in its environment."""
        mode = {"RAY_AUTH_MODE": "disabled"} if self.token is None else {"RAY_AUTH_MODE": "token"}
        return {
            **mode,
            **({} if self.token is None else {"RAY_AUTH_TOKEN": self.token}),
            # Or Ray takes loopback for the machine's address in its network, where this cluster does not listen.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "XDG_STATE_HOME": str(self.folder / "state"),
        }

    def start(self) -> None:
        """Start it."""
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
        self.address = self._answer()["address"]

    def add(self, name: str, *, cpus: int = 8, **labels: str) -> str:
        """A node more; its id."""
        node: str = self.ask({"add": name, "labels": labels, "cpus": cpus})["node"]
        return node

    def remove(self, name: str) -> None:
        """A node dies with all that runs on it."""
        self.ask({"remove": name})

    def told(self, group: str, site: str = "test") -> dict[str, Any]:
        """What a group's actor tells; {"error": ...} where it does not answer."""
        return self.ask({"told": f"{site}/{group}"})

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Have it done."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it and everything on it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(_ANSWERS_S)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], _ANSWERS_S)
        line = self.process.stdout.readline() if readable else ""
        assert line, (self.folder / "cluster.log").read_text(encoding="utf-8")[-3000:]
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(kw_only=True)
class EngineDriver:
    """`nvision-hub start --engine ray`, from its start to its end."""

    cluster: RayCluster
    config: Path
    log_file: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, *options: str) -> None:
        """Start it."""
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
        """All that it and those before it have logged."""
        return self.log_file.read_text(encoding="utf-8")

    def settled(self, times: int, within_s: float = _ANSWERS_S) -> None:
        """Wait until it has said so often that all groups are as they should be."""
        deadline = time.monotonic() + within_s
        while self.log().count("all groups are as") < times:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def end(self) -> int:
        """Ctrl-C; its exit code."""
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
        needs.missing("Ray is not installed; `pip install 'nvision-hub[ray]'` brings it")
    started: list[RayCluster] = []

    def start(**options: Any) -> RayCluster:
        cluster = RayCluster(folder=tmp_path_factory.mktemp("ray"), **options)
        cluster.start()
        started.append(cluster)
        return cluster

    yield start
    for cluster in started:
        cluster.close()
