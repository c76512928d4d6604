"""Start and control a webhook receiver (`receiver_server.py`) in tests and benchmarks."""

from __future__ import annotations

import base64
import contextlib
import json
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROGRAM: Final = Path(__file__).with_name("receiver_server.py")
SECRET: Final = "whsec_" + base64.b64encode(b"a secret of twenty-nine bytes").decode()
OTHER_SECRET: Final = "whsec_" + base64.b64encode(b"another one, as long as that!").decode()


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One received request. `at` is CLOCK_MONOTONIC, and `time` is in seconds since the epoch."""

    at: float
    time: float
    path: str
    status: int  # status of the response
    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        """Value of the webhook-id header."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        """Event in the body."""
        event: dict[str, Any] = json.loads(self.body)
        return event


@dataclass(kw_only=True)
class Receiver(Server):
    """One receiver. `behaviors` maps each path to fields of its `receiver_server.Behavior`."""

    folder: Path
    behaviors: dict[str, Any] = field(default_factory=dict)
    certificate: Path | None = None  # PEM file with certificate and key; enables TLS
    port: int = 0
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        """Start the receiver. A restart uses the same port and keeps the records."""
        config = self.folder / "receiver.json"
        given = {"port": self.port, "folder": str(self.folder), "behaviors": self.behaviors}
        config.write_text(json.dumps({**given, "certificate": self.certificate and str(self.certificate)}))
        self.process = subprocess.Popen(
            [sys.executable, _PROGRAM, config], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = json.loads(self._line())["port"]

    def set_behavior(self, path: str = "*", /, **behavior: Any) -> int:
        """Set the behavior of one path, or of all other paths (`*`). Return the number of requests so far."""
        self.behaviors[path] = behavior
        return self._send({path: behavior})

    def count(self) -> int:
        """Return the number of requests so far, including requests that the receiver did not record."""
        return self._send({})

    def _send(self, order: dict[str, Any]) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        count: int = json.loads(self._line())["count"]
        return count

    def _line(self) -> str:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            self.kill()
            raise AssertionError("the receiver does not answer")
        return line

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        """Return the value of a webhook's `url` in cameras.yaml."""
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}{path}"

    def deliveries(self, path: str | None = None) -> list[Delivery]:
        """Return the requests so far (to one path or to all) in order of arrival."""
        found = [Delivery(**fields) for fields in _lines(self.folder / "requests.jsonl")]
        return [each for each in found if path in {None, each.path}]

    def accepted(self, path: str | None = None) -> list[str]:
        """Return the webhook-ids with a 2xx response, in order of arrival."""
        return [each.id for each in self.deliveries(path) if 200 <= each.status < 300]

    def connections(self) -> int:
        """Number of connections so far."""
        return len(_lines(self.folder / "connections.jsonl"))

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Wait until the condition is true. Fail after `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"not met within {timeout_s} s; {len(self.deliveries())} requests so far"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)

    def wait_for(self, count: int, path: str | None = None, timeout_s: float = PATIENCE_S) -> list[Delivery]:
        """Wait until there are `count` requests, and return them."""
        self.wait_until(lambda: len(self.deliveries(path)) >= count, timeout_s)
        return self.deliveries(path)


def _lines(file: Path) -> list[dict[str, Any]]:
    """Parse a file of JSON lines. Leave an incomplete last line for the next call."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Receiver]]:
    """Start a receiver: `receiver()`, `receiver(status=500)` (on all paths), `receiver(certificate=pem)`."""
    started: list[Receiver] = []

    def start(certificate: Path | None = None, **behavior: Any) -> Receiver:
        it = Receiver(folder=tmp_path_factory.mktemp("receiver"), behaviors={"*": behavior}, certificate=certificate)
        it.start()
        started.append(it)
        return it

    yield start
    for it in started:
        it.kill()
