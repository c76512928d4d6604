"""Start and control a service that records every frame it receives (`recorder_server.py`)."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROGRAM: Final = Path(__file__).with_name("recorder_server.py")
KEY: Final = "0123456789abcdef-recorder"


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """One received message. `at` is CLOCK_MONOTONIC at the time when the message was complete."""

    at: float
    source_id: str
    frame_id: str
    created_at: str
    encoding: int
    configurations: list[tuple[str, str]]
    offset: int
    size: int
    connection: int  # number of the connection, counted from 1

    @property
    def created(self) -> float:
        """Creation time in seconds since the epoch."""
        return datetime.fromisoformat(self.created_at).timestamp()


@dataclass(frozen=True, kw_only=True, slots=True)
class Handshake:
    """One connection attempt and the response to it."""

    at: float
    path: str
    key: str | None
    status: int


@dataclass(kw_only=True)
class Recorder(Server):
    """One service. `behavior` contains fields of `recorder_server.Behavior`."""

    folder: Path
    behavior: dict[str, Any] = field(default_factory=dict)
    certificate: Path | None = None  # PEM file with certificate and key; enables TLS
    port: int = 0
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        """Start the service. A restart uses the same port and keeps the records."""
        config = self.folder / "recorder.json"
        config.write_text(
            json.dumps(
                {
                    "port": self.port,
                    "folder": str(self.folder),
                    "behavior": self.behavior,
                    "certificate": self.certificate and str(self.certificate),
                }
            ),
            encoding="utf-8",
        )
        self.process = subprocess.Popen(
            [sys.executable, _PROGRAM, config], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = json.loads(self._line())["port"]

    def set_behavior(self, **behavior: Any) -> None:
        """Change the service's behavior. Returns when the change is active."""
        self.behavior |= behavior
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(behavior) + "\n")
        self.process.stdin.flush()
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            self.kill()
            raise AssertionError("the recorder does not answer")
        return line

    @property
    def url(self) -> str:
        """The value of `nvision.url` in cameras.yaml."""
        return f"{'wss' if self.certificate else 'ws'}://127.0.0.1:{self.port}/api"

    def received(self, source_id: str | None = None) -> list[Received]:
        """Return the messages so far (of one camera or of all) in order of arrival."""
        records = [Received(**fields) for fields in _lines(self.folder / "messages.jsonl")]
        return [record for record in records if source_id in {None, record.source_id}]

    def handshakes(self) -> list[Handshake]:
        """Return the connection attempts so far."""
        return [Handshake(**fields) for fields in _lines(self.folder / "connections.jsonl")]

    def frame(self, record: Received) -> bytes:
        """Return the frame in a message."""
        with (self.folder / "frames.bin").open("rb") as file:
            file.seek(record.offset)
            return file.read(record.size)

    def wait_for(self, count: int, source_id: str | None = None, deadline_s: float = PATIENCE_S) -> list[Received]:
        """Wait until there are `count` messages, and return them. Fail after `deadline_s`."""
        end = time.monotonic() + deadline_s
        while len(records := self.received(source_id)) < count:
            assert time.monotonic() < end, f"{len(records)} of {count} messages after {deadline_s} s"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        return records


def _lines(file: Path) -> list[dict[str, Any]]:
    """Parse a file of JSON lines. Leave an incomplete last line for the next call."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Recorder]]:
    """Start a recording service: `recorder()`, `recorder(latency_s=1.0)`."""
    started: list[Recorder] = []

    def start(**behavior: Any) -> Recorder:
        service = Recorder(folder=tmp_path_factory.mktemp("recorder"), behavior=behavior)
        service.start()
        started.append(service)
        return service

    yield start
    for service in started:
        service.kill()
