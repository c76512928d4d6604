"""A webhook's receiver, `receiver_server.py`, as tests and benchmarks hold it; and secrets for it to check."""

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

from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROGRAM: Final = Path(__file__).with_name("receiver_server.py")
_START_S: Final = 20.0
SECRET: Final = "whsec_" + base64.b64encode(b"a secret of twenty-nine bytes").decode()
OTHER_SECRET: Final = "whsec_" + base64.b64encode(b"another one, as long as that!").decode()


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One request as the receiver got it. `at` is CLOCK_MONOTONIC, `time` seconds since the epoch."""

    at: float
    time: float
    path: str
    status: int  # what it was answered with
    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        """The webhook-id."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        """The body."""
        event: dict[str, Any] = json.loads(self.body)
        return event


@dataclass(kw_only=True)
class Receiver(Server):
    """One receiver. `behaviours` are paths and their `receiver_server.Behaviour`, as dictionaries."""

    folder: Path
    behaviours: dict[str, Any] = field(default_factory=dict)
    certificate: Path | None = None  # a PEM file with its key: then it speaks TLS
    port: int = 0
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        """Start it, or start it again on the port it had; what it wrote down before is kept."""
        config = self.folder / "receiver.json"
        given = {"port": self.port, "folder": str(self.folder), "behaviours": self.behaviours}
        config.write_text(json.dumps({**given, "certificate": self.certificate and str(self.certificate)}))
        self.process = subprocess.Popen(
            [sys.executable, _PROGRAM, config], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = json.loads(self._line())["port"]

    def order(self, path: str = "*", /, **behaviour: Any) -> int:
        """How a path answers from now on (`*`: those without orders of their own); the number of requests so far."""
        self.behaviours[path] = behaviour
        return self._tell({path: behaviour})

    def count(self) -> int:
        """The number of requests so far, those that are not written down too."""
        return self._tell({})

    def _tell(self, order: dict[str, Any]) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        count: int = json.loads(self._line())["count"]
        return count

    def _line(self) -> str:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], _START_S)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            self.kill()
            raise AssertionError("the receiver does not answer")
        return line

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        """What a webhook's `url` is to be."""
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}{path}"

    def deliveries(self, path: str | None = None) -> list[Delivery]:
        """The requests so far, to one path or to all, in the order they came."""
        found = [Delivery(**fields) for fields in _lines(self.folder / "requests.jsonl")]
        return [each for each in found if path in {None, each.path}]

    def taken(self, path: str | None = None) -> list[str]:
        """The webhook-ids that were answered with 2xx, in the order they came."""
        return [each.id for each in self.deliveries(path) if 200 <= each.status < 300]

    def connections(self) -> int:
        """How often somebody has connected."""
        return len(_lines(self.folder / "connections.jsonl"))

    def wait_until(self, condition: Callable[[], bool], within_s: float = 30.0) -> None:
        """Wait for what it writes down; fails after `within_s`."""
        end = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end, f"not met within {within_s} s; {len(self.deliveries())} requests so far"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)

    def wait_for(self, count: int, path: str | None = None, within_s: float = 30.0) -> list[Delivery]:
        """The requests, once there are `count`."""
        self.wait_until(lambda: len(self.deliveries(path)) >= count, within_s)
        return self.deliveries(path)


def _lines(file: Path) -> list[dict[str, Any]]:
    """What is in a file of JSON lines; a line still being written is left for the next time."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Receiver]]:
    """Start a receiver: `receiver()`, `receiver(status=500)` for all its paths, `receiver(certificate=pem)`."""
    started: list[Receiver] = []

    def start(certificate: Path | None = None, **behaviour: Any) -> Receiver:
        it = Receiver(folder=tmp_path_factory.mktemp("receiver"), behaviours={"*": behaviour}, certificate=certificate)
        it.start()
        started.append(it)
        return it

    yield start
    for it in started:
        it.kill()
