"""A service that writes down every picture it receives: `recorder_server.py` as tests and benchmarks hold it."""

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

from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROGRAM: Final = Path(__file__).with_name("recorder_server.py")
_START_S: Final = 20.0
KEY: Final = "0123456789abcdef-recorder"


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """One message as the service got it. `at` is CLOCK_MONOTONIC when it was complete."""

    at: float
    source_id: str
    frame_id: str
    created_at: str
    encoding: int
    configurations: list[tuple[str, str]]
    offset: int
    size: int
    connection: int  # by which it came, counted from 1

    @property
    def created(self) -> float:
        """Seconds since the epoch."""
        return datetime.fromisoformat(self.created_at).timestamp()


@dataclass(frozen=True, kw_only=True, slots=True)
class Handshake:
    """One attempt to connect, and how it was answered."""

    at: float
    path: str
    key: str | None
    status: int


@dataclass(kw_only=True)
class Recorder(Server):
    """One service. `behaviour` is that of `recorder_server.Behaviour`, as a dictionary."""

    folder: Path
    behaviour: dict[str, Any] = field(default_factory=dict)
    certificate: Path | None = None  # a PEM file with its key: then it speaks TLS
    port: int = 0
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        """Start it, or start it again on the port it had; what it wrote down before is kept."""
        config = self.folder / "recorder.json"
        config.write_text(
            json.dumps(
                {
                    "port": self.port,
                    "folder": str(self.folder),
                    "behaviour": self.behaviour,
                    "certificate": self.certificate and str(self.certificate),
                }
            ),
            encoding="utf-8",
        )
        self.process = subprocess.Popen(
            [sys.executable, _PROGRAM, config], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = json.loads(self._line())["port"]

    def order(self, **behaviour: Any) -> None:
        """Change how it behaves; done when this returns."""
        self.behaviour |= behaviour
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(behaviour) + "\n")
        self.process.stdin.flush()
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], _START_S)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            self.kill()
            raise AssertionError("the recorder does not answer")
        return line

    @property
    def url(self) -> str:
        """What `nvision.url` is to be: the base address."""
        return f"{'wss' if self.certificate else 'ws'}://127.0.0.1:{self.port}/api"

    def received(self, source_id: str | None = None) -> list[Received]:
        """The messages so far, of one camera or of all, in the order they came."""
        records = [Received(**fields) for fields in _lines(self.folder / "messages.jsonl")]
        return [record for record in records if source_id in {None, record.source_id}]

    def handshakes(self) -> list[Handshake]:
        """The attempts to connect so far."""
        return [Handshake(**fields) for fields in _lines(self.folder / "connections.jsonl")]

    def picture(self, record: Received) -> bytes:
        """The picture in a message."""
        with (self.folder / "pictures.bin").open("rb") as file:
            file.seek(record.offset)
            return file.read(record.size)

    def wait_for(self, count: int, source_id: str | None = None, deadline_s: float = 20.0) -> list[Received]:
        """The messages, once there are `count`; fails after `deadline_s`."""
        end = time.monotonic() + deadline_s
        while len(records := self.received(source_id)) < count:
            assert time.monotonic() < end, f"{len(records)} of {count} messages after {deadline_s} s"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        return records


def _lines(file: Path) -> list[dict[str, Any]]:
    """What is in a file of JSON lines; a line still being written is left for the next time."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Recorder]]:
    """Start a recording service: `recorder()`, `recorder(latency_s=1.0)`."""
    started: list[Recorder] = []

    def start(**behaviour: Any) -> Recorder:
        service = Recorder(folder=tmp_path_factory.mktemp("recorder"), behaviour=behaviour)
        service.start()
        started.append(service)
        return service

    yield start
    for service in started:
        service.kill()
