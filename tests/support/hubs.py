"""Several hubs on one Redis, started like an engine starts them: each is a separate program with its own state_dir."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
import redis

from nvision_hub.cluster.identity import CONTROL, VARIABLE
from tests.support.command import environment
from tests.support.patience import PATIENCE_S
from tests.support.recorder import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis

FLEET_KEY: Final = "bQ7xV2mZ9tLw4RkY8sPf1HdC6nJ3gAe5"


def announced_gateway(client: redis.Redis) -> str:
    """Return the gateway's address from Redis, without its seal; empty if there is none."""
    value = client.get("nvision:fleet:gateway")
    text = value.decode() if isinstance(value, bytes) else str(value or "")
    return text.rpartition("\n")[2]


class Hubs:
    """Hubs of a fleet. Each hub is a separate program with its own state_dir."""

    def __init__(self, folder: Path, broker: DebianRedis, service: Recorder) -> None:
        self.folder = folder
        self.url = broker.url
        self.redis = redis.Redis.from_url(broker.url, decode_responses=True)
        self.service = service
        self.fleet_key: str | None = FLEET_KEY
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, group: str, *cameras: dict[str, Any]) -> None:
        home = self.folder / group
        home.mkdir(exist_ok=True)
        content = {
            "nvision": {"url": self.service.url, "streaming_key": KEY},
            "redis": {"url": self.url, "fleet_key": self.fleet_key or ""},
            "gateway": {"listen": "127.0.0.1:0" if group == CONTROL else "none"},
            "cameras": cameras,
        }
        (home / "cameras.yaml").write_text(json.dumps(content))
        with (home / "hub.log").open("ab") as log:
            self.processes[group] = subprocess.Popen(
                [sys.executable, "-m", "nvision_hub", "start", home / "cameras.yaml"],
                env=environment({VARIABLE: group}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def signal(self, group: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a hub."""
        os.killpg(self.processes[group].pid, number)

    def holder(self) -> str | None:
        """Return the group that holds the camera."""
        holder = self.redis.hget("nvision:leases:{lobby}", "holder")
        return None if holder is None else str(holder).partition(" ")[0]

    def shown(self) -> dict[str, Any]:
        """Return the camera in the form that the fleet's gateway shows."""
        with httpx2.Client(base_url=announced_gateway(self.redis), trust_env=False) as client:
            found: dict[str, Any] = client.get("/api/v1/cameras/lobby").raise_for_status().json()
            return found

    def log(self, group: str) -> str:
        return (self.folder / group / "hub.log").read_text()

    def close(self) -> None:
        for process in self.processes.values():
            for number in (signal.SIGCONT, signal.SIGTERM):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        for process in self.processes.values():
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()
        self.redis.close()


@pytest.fixture
def hubs(tmp_path: Path, debian_redis: Callable[..., DebianRedis], recorder: Callable[..., Recorder]) -> Iterator[Hubs]:
    found = Hubs(tmp_path, debian_redis(), recorder())
    yield found
    found.close()


def wait_for(find: Callable[[], Any]) -> Any:
    """Return the first true result of `find`."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(httpx2.HTTPError):
            if found := find():
                return found
        assert time.monotonic() < deadline
        time.sleep(0.2)
