"""The real local service as tests hold it: a process on a free port, and every status it reports."""

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

from nvision_hub.link import MAX_RECORD_BYTES, Command
from nvision_hub.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_ROOT: Final = Path(__file__).parents[2]
_START_S: Final = 30.0
STOP_S: Final = 10.0
KEY: Final = "fedcba9876543210-service"


@dataclass(kw_only=True)
class LocalService:
    """One running service. `settings` are those of `ServiceSettings`, with paths as strings."""

    log: Path
    settings: dict[str, Any]
    process: subprocess.Popen[bytes] = field(init=False)
    url: str = field(init=False)
    _pipe: socket.socket = field(init=False)

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.launch()
        self.url = str(self.status(lambda status: status.ready, deadline_s=_START_S).row["url"])

    def launch(self, env: Mapping[str, str] | None = None) -> None:
        """Start it, with `env` added to the environment, without waiting: it may be meant to fail."""
        self._pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-W",
                    "error",
                    "-m",
                    "tests.support.service_program",
                    str(theirs.fileno()),
                    json.dumps(self.settings),
                ],
                cwd=_ROOT,
                env=os.environ | dict(env or {}),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def rest_url(self) -> str:
        """The same address for REST: `http://…/api`."""
        return self.url.replace("ws://", "http://")

    def stream_url(self, service: str = "object-detection") -> str:
        """Where that service's stream is."""
        return f"{self.url}/v1/{service}"

    def status(self, wanted: Callable[[Status], bool], deadline_s: float = 10.0) -> Status:
        """The first of its reports from now on that is wanted."""
        end = time.monotonic() + deadline_s
        while True:
            self._pipe.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self._pipe.recv(MAX_RECORD_BYTES)
            except TimeoutError:
                raise AssertionError(f"no such status within {deadline_s} s: {self.said()}") from None
            assert data, f"the service ended: {self.said()}"
            status = Status.decode(data)
            if wanted(status):
                return status

    def counted(self, name: str, at_least: float = 1, **labels: str) -> float:
        """The counter's value, once it has reached `at_least`."""

        def value(status: Status) -> float:
            counters = status.metrics["counters"]
            counts = (
                float(count) for known, given, count in counters if known == name and labels.items() <= given.items()
            )
            return sum(counts)

        return value(self.status(lambda status: value(status) >= at_least))

    def drain(self) -> None:
        """Ask it to end, as its supervisor would."""
        self._pipe.send(Command(verb="drain").encode())

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        if self.process.poll() is None:
            self.drain()
        try:
            return self.process.wait(STOP_S)
        finally:
            self.kill()

    def said(self) -> str:
        """What it wrote to its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._pipe.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def local_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LocalService]]:
    """Start the real service: `local_service()`, `local_service(latency_s=1.0)`; one key, `KEY`, unless told."""
    started: list[LocalService] = []

    def start(**settings: Any) -> LocalService:
        service = LocalService(
            log=tmp_path_factory.mktemp("service") / "log",
            settings={"port": 0, "streaming_keys": [KEY]} | settings,
        )
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.kill()
