"""Redis servers for tests, with fault injection: Debian's redis-server, and the embedded Valkey with its worker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import redis
import redis.asyncio
from redis.exceptions import RedisError

from nvision_hub.broker.client import connect
from nvision_hub.broker.embedded_config import EmbeddedBroker, claim_port
from nvision_hub.broker.embedded_users import BrokerPasswords, BrokerUser
from nvision_hub.runtime.process import ChildProcess, ProcessSpec
from nvision_hub.runtime.status import BrokerInfo, Status
from nvision_hub.testing import InMemoryHub
from tests.support import needs
from tests.support.patience import PATIENCE_S
from tests.support.statuses import info_as
from workers.broker import worker as broker_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


class Server(Protocol):
    """Interface of both servers."""

    @property
    def url(self) -> str:
        """URL for the hub's own processes, with all rights that the tests need."""

    @property
    def consumer_url(self) -> str:
        """URL for programs that consume results, over TCP."""

    def start(self) -> None:
        """Start the server, and return when it answers. After a restart, the server still has its data."""

    def kill(self) -> None:
        """Kill the server abruptly, like a power failure. The server cannot save data."""

    def close(self) -> None:
        """End the server, even if it is frozen or killed."""


def answering(url: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until a Redis answers at `url`."""
    deadline = time.monotonic() + timeout_s
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except RedisError:
                assert time.monotonic() < deadline, f"no answer at {url} within {timeout_s} s"
                time.sleep(0.01)
            else:
                return


@dataclass(kw_only=True)
class DebianRedis:
    """Debian's redis-server, on loopback or at an address of another network namespace."""

    folder: Path
    password: str = ""
    address: str = "127.0.0.1"
    namespace: str | None = None
    port: int = field(default_factory=lambda: claim_port(0).port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{f':{self.password}@' if self.password else ''}{self.address}:{self.port}"

    @property
    def consumer_url(self) -> str:
        return self.url

    def start(self) -> None:
        program = needs.program("redis-server", "redis-server")
        options = {"port": self.port, "bind": self.address, "dir": self.folder, "appendonly": "yes", "save": ""}
        if self.namespace is not None:
            options["protected-mode"] = "no"  # otherwise, redis-server would serve only loopback
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
        """Freeze the server. It then accepts connections but sends no replies."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the frozen server."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    close = kill


@dataclass(kw_only=True)
class KeptValkey:
    """Embedded Valkey. A broker worker, which is a real child of this process, runs it."""

    folder: Path
    port: int = field(default_factory=lambda: claim_port(0).port)
    child: ChildProcess | None = None
    last: Status | None = None  # the broker worker's last report
    prefix: str = "nvision"
    passwords: BrokerPasswords = field(default_factory=BrokerPasswords)
    stream_max_bytes: int = 256 * 2**20
    is_open: bool = False

    @property
    def settings(self) -> EmbeddedBroker:
        return EmbeddedBroker(
            directory=self.folder,
            port=self.port,
            prefix=self.prefix,
            passwords=self.passwords,
            stream_max_bytes=self.stream_max_bytes,
            is_open=self.is_open,
        )

    @property
    def url(self) -> str:
        return self.settings.url

    @property
    def consumer_url(self) -> str:
        return self.settings.user_url(BrokerUser.CONSUMER)

    def start(self) -> None:
        self.child = ChildProcess(ProcessSpec(name="broker", stage=0, entry=broker_worker.run, settings=self.settings))
        self.wait_for(lambda status: status.ready)

    def wait_for(self, condition: Callable[[Status], bool], timeout_s: float = PATIENCE_S) -> Status:
        """Wait for a report that meets the condition."""
        assert self.child is not None
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.child.receive().status
            if status is not None:
                self.last = status
                if condition(status):
                    return status
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {self.last}"
            time.sleep(0.01)

    @property
    def program(self) -> int:
        """Process id of Valkey."""
        assert self.last is not None
        return info_as(self.last, BrokerInfo).program

    def kill(self) -> None:
        """Kill Valkey. The broker worker then exits with an error."""
        os.kill(self.program, signal.SIGKILL)
        assert self.wait_for_exit() == 1

    def wait_for_exit(self) -> int | None:
        """Wait until the broker worker has exited. Return its exit code."""
        assert self.child is not None
        self.child.ended_within(PATIENCE_S)
        code = self.child.exit_code
        self.child.close()
        self.child = None
        return code

    def close(self) -> None:
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.program, signal.SIGCONT)
            self.child.kill()
            self.wait_for_exit()


@pytest.fixture
def kept_valkey(tmp_path: Path) -> Iterator[Callable[..., KeptValkey]]:
    """Create an embedded broker without starting it: `kept_valkey(folder=...)`."""
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
    """Start a server. Each test with this fixture runs once per kind of server."""
    return _start(request.param, kept_valkey, debian_redis)


@pytest.fixture(
    params=["memory", *(pytest.param(kind, marks=pytest.mark.server) for kind in ("valkey", "redis-server"))]
)
async def redis_client(
    request: pytest.FixtureRequest,
    kept_valkey: Callable[..., KeptValkey],
    debian_redis: Callable[..., DebianRedis],
) -> AsyncIterator[redis.asyncio.Redis]:
    """Create a client. Each test with this fixture runs with an in-memory Redis and with both kinds of server."""
    if request.param == "memory":
        client: redis.asyncio.Redis = InMemoryHub().async_redis(protocol=2)  # the same protocol as in `connect`
    else:
        client = connect(_start(request.param, kept_valkey, debian_redis).url)
    yield client
    await client.aclose()


def _start(
    kind: str, kept_valkey: Callable[..., KeptValkey], debian_redis: Callable[..., DebianRedis]
) -> DebianRedis | KeptValkey:
    if kind == "redis-server":
        return debian_redis()
    server = kept_valkey()
    server.start()
    return server
