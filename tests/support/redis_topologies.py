"""Sets of real redis-server processes on loopback: a master with replicas and Sentinels, and a Cluster."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest
import redis
from redis.exceptions import RedisError

from nvision_hub.broker.embedded_config import PortClaim, claim_port
from tests.support import needs
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

HOST: Final = "127.0.0.1"
MASTER: Final = "mymaster"
# A node of a Cluster also listens on its port + 10,000. The kernel chooses neither of these ports for connections.
_CLUSTER_PORTS_FROM: Final = 17_000


@dataclass(kw_only=True)
class Process:
    """One redis-server process with its own folder. `options` are lines of its configuration."""

    folder: Path
    options: Mapping[str, object] = field(default_factory=dict)
    lines: tuple[str, ...] = ()  # lines with directives that may occur several times
    sentinel: bool = False
    certificate: Path | None = None  # PEM file with certificate and key; if given, the server accepts only TLS
    authority: Path | None = None
    client_certificates: str = "no"  # `yes` if the server requires a certificate from each client
    password: str = ""
    claim: PortClaim = field(default_factory=lambda: claim_port(0))
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.claim.port

    @property
    def url(self) -> str:
        address = f"{login(self.password)}{HOST}:{self.port}"
        if self.certificate is None:
            return f"redis://{address}"
        return f"rediss://{address}?ssl_cert_reqs=none&ssl_certfile={self.certificate}"

    def client(self) -> Any:
        """Return a client that decodes replies. (redis-py does not annotate `execute_command`.)"""
        return redis.Redis.from_url(self.url, decode_responses=True, protocol=2)

    def start(self) -> None:
        """Start the process, or restart it with its data. Wait until it replies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "redis.conf"
        if not file.exists():  # Sentinels and masters rewrite their configuration file
            values: dict[str, object] = {
                "port": self.port,
                "bind": HOST,
                "dir": self.folder,
                "logfile": self.folder / "log",
            }
            if self.password:
                values["requirepass"] = self.password
            if self.certificate is not None:
                files = {"tls-cert-file": self.certificate, "tls-key-file": self.certificate}
                files["tls-ca-cert-file"] = self.authority or self.certificate
                values |= {"port": 0, "tls-port": self.port, "tls-auth-clients": self.client_certificates, **files}
                values |= {"tls-replication": "yes", "tls-cluster": "yes"}  # the servers also use TLS among themselves
            lines = [f"{name} {value}" for name, value in {**values, **self.options}.items()]
            file.write_text("\n".join([*lines, *self.lines, ""]))
        program = needs.program("redis-server", "redis-server")
        arguments = [program, str(file), *(["--sentinel"] if self.sentinel else [])]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: bool(self.client().ping()))

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()


def freeze(process: Process) -> None:
    """Freeze a server. It then accepts connections but sends no replies."""
    process.signal(signal.SIGSTOP)


def scheme(process: Process) -> str:
    return "redis" if process.certificate is None else "rediss"


def login(password: str) -> str:
    """Return a password in the form of an address; empty if there is none."""
    return f":{quote(password, safe='')}@" if password else ""


def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Wait until a condition is true. An error from Redis counts as False."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


@dataclass(kw_only=True)
class SentinelSet:
    """A master, two replicas and three Sentinels."""

    servers: list[Process]
    sentinels: list[Process]
    password: str = ""

    @property
    def url(self) -> str:
        return f"{scheme(self.servers[0])}+sentinel://{login(self.password)}{self.hosts}/{MASTER}/0"

    @property
    def address(self) -> str:
        """The address in the form of cameras.yaml."""
        return self.url

    @property
    def hosts(self) -> str:
        return ",".join(f"{HOST}:{each.port}" for each in self.sentinels)

    def master(self) -> Process:
        """Return the master that the first Sentinel names."""
        found: Any = self.sentinels[-1].client().execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return next(each for each in self.servers if each.port == int(found[1]))

    def fail_over(self, cause: Callable[[Process], None] = Process.kill) -> Process:
        """Stop the master with `cause`. Return the new master."""
        old = self.master()
        cause(old)
        until(lambda: self.master() is not old and self.master().client().role()[0] == "master")
        return self.master()


@dataclass(kw_only=True)
class Cluster:
    """Three masters, and one replica of the master with the slot of `tag`."""

    nodes: list[Process]
    tag: str = "{nvision}"

    @property
    def url(self) -> str:
        return f"{self.address}/0?key={self.tag}"

    @property
    def address(self) -> str:
        """The address in the form of cameras.yaml."""
        return f"{scheme(self.nodes[0])}+cluster://{','.join(f'{HOST}:{each.port}' for each in self.nodes)}"

    def owner(self, *, not_from: Process | None = None) -> Process:
        """Return the node with the slot, according to a node other than `not_from`."""
        asked = next(node for node in self.nodes if node is not not_from)
        with asked.client() as client:
            slot: Any = client.execute_command("CLUSTER", "KEYSLOT", self.tag)
            for first, last, master, *_ in client.execute_command("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return next(node for node in self.nodes if node.port == master[1])
        raise AssertionError("no node has the slot")

    def fail_over(self, cause: Callable[[Process], None] = Process.kill) -> Process:
        """Stop the node with the slot with `cause`. Return the node that takes over."""
        old = self.owner()
        cause(old)
        until(lambda: self.owner(not_from=old) is not old)
        return self.owner(not_from=old)


def _sentinel(folder: Path, master: Process, own_password: str, tls: Mapping[str, Any]) -> Process:
    lines = [
        f"sentinel monitor {MASTER} {HOST} {master.port} 2",
        f"sentinel down-after-milliseconds {MASTER} 1000",
        f"sentinel failover-timeout {MASTER} 5000",
    ]
    if master.password:
        lines.append(f"sentinel auth-pass {MASTER} {master.password}")
    if own_password:
        lines.append(f"sentinel sentinel-pass {own_password}")
    return Process(folder=folder, sentinel=True, lines=tuple(lines), password=own_password, **tls)


@pytest.fixture
def sentinel_set(tmp_path: Path) -> Iterator[Callable[..., SentinelSet]]:
    """Start a set: `sentinel_set()`, `sentinel_set(password="...", sentinel_password="...")`.

    A busy machine can delay the replies of a master so long that the Sentinels choose another one. The first master
    then accepts writes for eight more seconds, and these writes are lost when it becomes a replica. By default, the
    servers have the settings of docs/deployment.md, "Failover", which prevent this. `accepts_alone=True` omits these
    settings: a master then also accepts writes without a replica. Other keywords are the TLS files of `Process`.
    """
    made: list[Process] = []

    def start(
        *, password: str = "", sentinel_password: str = "", accepts_alone: bool = False, **tls: Any
    ) -> SentinelSet:
        folder = tmp_path / "redis"
        options: dict[str, object] = {"appendonly": "yes", "save": '""', "repl-diskless-sync-delay": 0}
        if not accepts_alone:
            options |= {"min-replicas-to-write": 1, "min-replicas-max-lag": 3}
        if password:
            options["masterauth"] = password
        master = Process(folder=folder / "server0", options={**options}, password=password, **tls)
        options["replicaof"] = f"{HOST} {master.port}"
        replicas = [
            Process(folder=folder / f"server{number}", options={**options}, password=password, **tls)
            for number in (1, 2)
        ]
        sentinels = [_sentinel(folder / f"sentinel{number}", master, sentinel_password, tls) for number in range(3)]
        made.extend([master, *replicas, *sentinels])
        for process in (master, *replicas):
            process.start()
        until(lambda: master.client().info("replication")["connected_slaves"] == 2)
        for process in sentinels:
            process.start()

        def is_complete(sentinel: Process) -> bool:
            state: Any = sentinel.client().sentinel_master(MASTER)
            return (state["num-slaves"], state["num-other-sentinels"]) == (2, 2)

        until(lambda: all(is_complete(each) for each in sentinels))
        return SentinelSet(servers=[master, *replicas], sentinels=sentinels, password=password)

    yield start
    for process in made:
        process.kill()


@pytest.fixture
def redis_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Start a Cluster: `redis_cluster()`. The keywords are the TLS files of `Process`."""
    made: list[Process] = []

    def start(**tls: Any) -> Cluster:
        options: dict[str, object] = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": 1500,
            "appendonly": "yes",
            "save": '""',
            "repl-diskless-sync-delay": 0,
        }
        for number in range(4):
            claim = claim_port(_CLUSTER_PORTS_FROM)
            made.append(Process(folder=tmp_path / f"node{number}", options=options, claim=claim, **tls))
            made[-1].start()
        masters, replica = made[:3], made[3]
        program = [needs.program("redis-cli", "redis-tools"), *(["--tls", "--insecure"] if tls else []), "--cluster"]
        addresses = [f"{HOST}:{each.port}" for each in masters]
        subprocess.run([*program, "create", *addresses, "--cluster-yes"], check=True, capture_output=True)
        until(lambda: all(each.client().cluster("info")["cluster_state"] == "ok" for each in masters))
        owner = Cluster(nodes=masters).owner()
        name: Any = owner.client().execute_command("CLUSTER", "MYID")
        subprocess.run(
            [*program, "add-node", f"{HOST}:{replica.port}", addresses[0],
             "--cluster-slave", "--cluster-master-id", name],
            check=True, capture_output=True,
        )  # fmt: skip
        until(lambda: owner.client().info("replication")["connected_slaves"] == 1)
        until(lambda: replica.client().info("replication")["master_link_status"] == "up")
        # All masters must know the replica, because all of them vote for it.
        until(lambda: all(_knows_replica(each, replica) for each in masters))
        return Cluster(nodes=[*masters, replica])

    yield start
    for process in made:
        process.kill()


def _knows_replica(node: Process, replica: Process) -> bool:
    nodes: Any = node.client().execute_command("CLUSTER", "NODES")
    return any(f":{replica.port}@" in line and "slave" in line for line in nodes.splitlines())
