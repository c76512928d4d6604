"""Redis for tests: Debian's redis-server, and the embedded Valkey in its keeper's process. Both can be hurt."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest
import redis
from redis.exceptions import RedisError

from nvision_hub.broker import EmbeddedBroker
from nvision_hub.broker.embedded import claim_port
from nvision_hub.child import Child, ChildSpec
from tests.support import needs
from workers.broker import broker as keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nvision_hub.status import Status

_START_S: Final = 15.0


class Server(Protocol):
    """What both can do."""

    @property
    def url(self) -> str:
        """For clients."""

    def start(self) -> None:
        """Start it, or start it again with the data that it had; returns once it answers."""

    def kill(self) -> None:
        """As a power cut."""

    def close(self) -> None:
        """End it, whatever state it is in."""


def answering(url: str, within_s: float = _START_S) -> None:
    """Wait until a Redis answers at `url`."""
    deadline = time.monotonic() + within_s
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except RedisError:
                assert time.monotonic() < deadline, f"no answer at {url} within {within_s} s"
                time.sleep(0.01)
            else:
                return


@dataclass(kw_only=True)
class DebianRedis:
    """Debian's redis-server, on loopback, or where another network namespace has an address."""

    folder: Path
    password: str = ""
    address: str = "127.0.0.1"
    namespace: str | None = None
    port: int = field(default_factory=lambda: claim_port(0).port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{f':{self.password}@' if self.password else ''}{self.address}:{self.port}"

    def start(self) -> None:
        program = needs.program("redis-server", "redis-server")
        options = {"port": self.port, "bind": self.address, "dir": self.folder, "appendonly": "yes", "save": ""}
        if self.namespace is not None:
            options["protected-mode"] = "no"  # or it would serve loopback alone
        if self.password:
            options["requirepass"] = self.password
        arguments = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        inside = [] if self.namespace is None else ["ip", "netns", "exec", self.namespace]
        self.process = subprocess.Popen([*inside, program, *arguments], stdout=subprocess.DEVNULL)
        answering(self.url)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """It accepts connections and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    close = kill


@dataclass(kw_only=True)
class KeptValkey:
    """The embedded Valkey, run by its keeper as a real child of this process."""

    folder: Path
    port: int = field(default_factory=lambda: claim_port(0).port)
    child: Child | None = None
    last: Status | None = None  # the keeper's last report

    @property
    def settings(self) -> EmbeddedBroker:
        return EmbeddedBroker(directory=self.folder, port=self.port)

    @property
    def url(self) -> str:
        return self.settings.url

    def start(self) -> None:
        self.child = Child(ChildSpec(name="broker", stage=0, entry=keeper.run, settings=self.settings))
        self.wait_for(lambda status: status.ready)

    def wait_for(self, condition: Callable[[Status], bool], within_s: float = _START_S) -> Status:
        """Wait for a report that meets the condition."""
        assert self.child is not None
        deadline = time.monotonic() + within_s
        while True:
            status = self.child.receive().status
            if status is not None:
                self.last = status
                if condition(status):
                    return status
            assert time.monotonic() < deadline, f"not within {within_s} s: {self.last}"
            time.sleep(0.01)

    @property
    def program(self) -> int:
        """Valkey's own process."""
        assert self.last is not None
        pid: int = self.last.row["program"]
        return pid

    def kill(self) -> None:
        """Valkey itself dies, and its keeper with an error."""
        os.kill(self.program, signal.SIGKILL)
        assert self.end_of_keeper() == 1

    def end_of_keeper(self) -> int | None:
        """Wait for the keeper's end; its exit code."""
        assert self.child is not None
        self.child.ended_within(_START_S)
        code = self.child.exit_code
        self.child.close()
        self.child = None
        return code

    def close(self) -> None:
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.program, signal.SIGCONT)
            self.child.kill()
            self.end_of_keeper()


@pytest.fixture
def kept_valkey(tmp_path: Path) -> Iterator[Callable[..., KeptValkey]]:
    """Make, and not yet start, an embedded broker: `kept_valkey(folder=...)`."""
    made: list[KeptValkey] = []

    def make(**options: Any) -> KeptValkey:
        made.append(KeptValkey(**{"folder": tmp_path / "broker", **options}))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def debian_redis(tmp_path: Path) -> Iterator[Callable[..., DebianRedis]]:
    """Start a redis-server: `debian_redis()`, `debian_redis(password="...")`."""
    started: list[DebianRedis] = []

    def start(**options: Any) -> DebianRedis:
        server = DebianRedis(folder=tmp_path, **options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.close()


@pytest.fixture(params=["valkey", "redis-server"])
def redis_server(
    request: pytest.FixtureRequest,
    kept_valkey: Callable[..., KeptValkey],
    debian_redis: Callable[..., DebianRedis],
) -> Server:
    """A running server; each test that takes it runs with both."""
    if request.param == "redis-server":
        return debian_redis()
    server = kept_valkey()
    server.start()
    return server
