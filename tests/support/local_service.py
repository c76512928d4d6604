"""The local service as a process on a free port, and its status reports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from nvision_hub.runtime.messages import MAX_RECORD_BYTES, Drain, decode, encode
from nvision_hub.runtime.status import ServiceInfo, Status
from tests.support.metrics import series_sum
from tests.support.patience import PATIENCE_S
from tests.support.statuses import info_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_ROOT: Final = Path(__file__).parents[2]
KEY: Final = "fedcba9876543210-service"


@dataclass(kw_only=True)
class LocalService:
    """One running service. `settings` contains fields of `LocalServiceSettings`, with paths as strings."""

    log: Path
    settings: dict[str, Any]
    process: subprocess.Popen[bytes] = field(init=False)
    url: str = field(init=False)
    _pipe: socket.socket = field(init=False)

    def start(self) -> None:
        """Start the service and wait until it listens."""
        self.launch()
        self.url = info_as(self.status(lambda status: status.ready, deadline_s=PATIENCE_S), ServiceInfo).url

    def launch(self, env: Mapping[str, str] | None = None) -> None:
        """Start the service with `env` added to its environment. Do not wait, because the start may fail."""
        self._pipe, child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with child_end, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-W",
                    "error",
                    "-m",
                    "tests.support.local_service_program",
                    str(child_end.fileno()),
                    json.dumps(self.settings),
                ],
                cwd=_ROOT,
                env=os.environ | dict(env or {}),
                pass_fds=[child_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def rest_url(self) -> str:
        """Base URL of the REST API: `http://…/api`."""
        return self.url.replace("ws://", "http://")

    def stream_url(self, service: str = "object-detection") -> str:
        """Return the address of a service's stream."""
        return f"{self.url}/v1/{service}"

    def status(self, wanted: Callable[[Status], bool], deadline_s: float = PATIENCE_S) -> Status:
        """Return the first future status report that `wanted` accepts."""
        end = time.monotonic() + deadline_s
        while True:
            self._pipe.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self._pipe.recv(MAX_RECORD_BYTES)
            except TimeoutError:
                raise AssertionError(f"no such status within {deadline_s} s: {self.log_text()}") from None
            assert data, f"the service ended: {self.log_text()}"
            status = decode(data)
            assert isinstance(status, Status)
            if wanted(status):
                return status

    def counted(self, name: str, at_least: float = 1, **labels: str) -> float:
        """Wait until a counter is at least `at_least`, and return its value."""

        def value(status: Status) -> float:
            return series_sum(status.metrics.counters, name, labels)

        return value(self.status(lambda status: value(status) >= at_least))

    def drain(self) -> None:
        """Request a stop like the supervisor does."""
        self._pipe.send(encode(Drain()))

    def stop(self) -> int:
        """Stop the service and return its exit code."""
        if self.process.poll() is None:
            self.drain()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.kill()

    def log_text(self) -> str:
        """Return the log of the service."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """Kill the service if it still runs."""
        self._pipe.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def local_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LocalService]]:
    """Start the real service: `local_service()`, `local_service(latency_s=1.0)`.

    By default, the key is `KEY`. The service detects moving objects, because this needs less CPU time than a model.
    """
    started: list[LocalService] = []

    def start(**settings: Any) -> LocalService:
        service = LocalService(
            log=tmp_path_factory.mktemp("service") / "log",
            settings={"port": 0, "streaming_keys": [KEY], "model": "moving"} | settings,
        )
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.kill()
