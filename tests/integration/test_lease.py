"""Leases on a real Redis: one holder at a time despite crashes, network partitions and lost data."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import pytest
import redis.asyncio

from nvision_hub.broker.client import connect
from nvision_hub.broker.scripts import load_script
from nvision_hub.cluster.camera_lease import Lease, LeaseSettings
from nvision_hub.cluster.rejected_entries import RejectedEntries
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_server import Server
    from tests.support.redis_topologies import SentinelSet

TERM_S: Final = 2.0
TIMEOUT_S: Final = PATIENCE_S
POLL_INTERVAL_S: Final = 0.01
LEASE_KEY: Final = "nvision:leases:{lobby}"


class Holders:
    """Several hubs that compete for one camera's lease. Every check asserts that at most one hub holds the lease."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.meter = Meter()
        self.leases: dict[str, Lease] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, url: str | None = None) -> Lease:
        settings = LeaseSettings(url=url or self.url, prefix="nvision", holder=name, term_s=TERM_S)
        lease = self.leases[name] = Lease(settings, "lobby", RejectedEntries(self.meter))
        self.tasks[name] = asyncio.create_task(lease.run())
        return lease

    async def wait_for_holders(self, *names: str) -> float:
        """Wait until exactly these hubs hold the lease. Return the seconds waited."""
        return await self.wait_for(lambda: self.holding() == set(names))

    async def wait_for(self, condition: Callable[[], bool]) -> float:
        """Wait until `condition` holds, and check the holders until then. Return the seconds waited."""
        started_at = time.monotonic()
        for _ in range(int(TIMEOUT_S / POLL_INTERVAL_S)):
            self.holding()
            if condition():
                return time.monotonic() - started_at
            await asyncio.sleep(POLL_INTERVAL_S)
        raise AssertionError({name: lease.error for name, lease in self.leases.items()})

    def holding(self) -> set[str]:
        now = time.monotonic()
        names = {name for name, lease in self.leases.items() if lease.is_held(now)}
        assert len(names) <= 1, f"{names} hold the lease at the same time"
        return names

    async def epoch(self) -> int:
        """Return the epoch of the current lease."""
        async with redis.asyncio.Redis.from_url(self.url) as client:
            return int(await client.hget(LEASE_KEY, "epoch") or 0)

    async def end(self, name: str, *, orderly: bool) -> None:
        """Stop a hub. Unless `orderly`, the hub does not release its lease."""
        if not orderly:
            self.leases[name]._epoch = -1  # releasing a lease of another epoch has no effect
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)


@pytest.fixture
async def holders(redis_server: Server) -> AsyncIterator[Holders]:
    hubs = Holders(redis_server.url)
    yield hubs
    for name in hubs.tasks:
        await hubs.end(name, orderly=False)


async def test_the_first_holder_waits_a_term_and_a_release_hands_over_immediately(holders: Holders) -> None:
    first = holders.start("a")
    assert await holders.wait_for_holders("a") > 0.5 * TERM_S, "Redis may have lost an older lease"
    first_epoch = await holders.epoch()
    second = holders.start("b")
    await holders.wait_for(lambda: "another hub (a)" in str(second.error))
    assert first.error is None or "to expire" in first.error
    await holders.end("a", orderly=True)
    await holders.wait_for_holders("b")
    assert await holders.epoch() > first_epoch


async def test_the_lease_of_a_crashed_holder_expires_after_its_term(holders: Holders) -> None:
    holders.start("a")
    await holders.wait_for_holders("a")
    holders.start("b")
    await holders.end("a", orderly=False)
    await holders.wait_for_holders("b")


async def test_the_next_worker_of_the_same_hub_does_not_wait(holders: Holders) -> None:
    holders.start("a")
    await holders.wait_for_holders("a")
    before = await holders.epoch()
    await holders.end("a", orderly=False)
    second, errors = holders.start("a"), set[str | None]()

    def is_holding() -> bool:
        errors.add(second.error)
        return holders.holding() == {"a"}

    await holders.wait_for(is_holding)
    assert not [error for error in errors if "to expire" in str(error)]
    assert await holders.epoch() == before + 1


class Proxy:
    """TCP proxy to Redis. While `dead`, it drops all data without closing a connection."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.dead = False
        self._copying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        user, _, _ = self._target.netloc.rpartition("@")  # and the password
        return f"redis://{user}{'@' if user else ''}127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = self._target
        far_reader, far_writer = (
            await asyncio.open_unix_connection(to.path)
            if to.scheme == "unix"
            else await asyncio.open_connection(to.hostname, to.port)
        )
        for source, target in ((reader, far_writer), (far_reader, writer)):
            self._copying.add(asyncio.create_task(self._copy(source, target)))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if not self.dead:
                    writer.write(data)
        finally:
            writer.transport.abort()

    async def __aexit__(self, *_error: object) -> None:
        for task in self._copying:
            task.cancel()
        await asyncio.gather(*self._copying, return_exceptions=True)
        self._server.close()
        await asyncio.sleep(0)  # the loop closes aborted transports in its next iteration


@pytest.mark.long
async def test_a_holder_that_loses_redis_stops_before_another_starts(holders: Holders) -> None:
    async with Proxy(holders.url) as proxy:
        isolated = holders.start("a", proxy.url)
        await holders.wait_for_holders("a")
        holders.start("b")
        proxy.dead = True
        await holders.wait_for_holders("b")
        await holders.wait_for(lambda: "Redis is unavailable" in str(isolated.error))
        proxy.dead = False
        await holders.wait_for(lambda: "another hub (b)" in str(isolated.error))
        await holders.end("a", orderly=False)


@pytest.mark.long
async def test_lost_redis_data_never_leads_to_two_holders(holders: Holders) -> None:
    holders.start("a")
    await holders.wait_for_holders("a")
    holders.start("b")
    async with redis.asyncio.Redis.from_url(holders.url) as client:
        for _ in range(3):
            await client.flushall()
            for _ in range(int(TIMEOUT_S / POLL_INTERVAL_S)):
                if await client.exists(LEASE_KEY):
                    break
                await asyncio.sleep(POLL_INTERVAL_S)
            await holders.wait_for(lambda: bool(holders.holding()))


FORGED: Final[dict[str, list[tuple[Any, ...]]]] = {
    "string": [("DEL", LEASE_KEY), ("SET", LEASE_KEY, "x")],
    "list": [("DEL", LEASE_KEY), ("RPUSH", LEASE_KEY, "x")],
    "no expiry": [("HSET", LEASE_KEY, "holder", "evil", "epoch", "9"), ("PERSIST", LEASE_KEY)],
    "distant expiry": [("HSET", LEASE_KEY, "holder", "evil", "epoch", "9"), ("PEXPIRE", LEASE_KEY, 10**12)],
    "no holder": [("HDEL", LEASE_KEY, "holder")],
    "word as epoch": [("HSET", LEASE_KEY, "epoch", "1e999")],
    "huge epoch": [("HSET", LEASE_KEY, "epoch", "9" * 40)],
    "epochs as a string": [("SET", f"{LEASE_KEY}:epochs", b"\xff\x1b[2J")],
    "epochs are no numbers": [("HSET", f"{LEASE_KEY}:epochs", "last", "nan", "since", "inf")],
    "epochs from the future": [("HSET", f"{LEASE_KEY}:epochs", "since", "9" * 15)],
}


@pytest.mark.long
async def test_a_forged_lease_is_replaced_and_counted(holders: Holders) -> None:
    def rejected() -> float:
        return holders.meter.value(catalogue.FLEET_ENTRIES_REJECTED_TOTAL, kind="lease", reason="malformed")

    holders.start("a")
    await holders.wait_for_holders("a")
    assert rejected() == 0
    async with redis.asyncio.Redis.from_url(holders.url) as client:
        for name, commands in FORGED.items():
            before = rejected()
            async with client.pipeline() as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                await pipe.execute()
            await holders.wait_for(lambda before=before: rejected() > before)  # type: ignore[misc]
            assert await client.type(LEASE_KEY) == b"hash", name
            assert await client.hget(LEASE_KEY, "holder") == b"a", name
            assert 0 < await client.pttl(LEASE_KEY) <= TERM_S * 1000, name
            await holders.wait_for_holders("a")


async def test_a_name_in_a_lease_cannot_control_a_terminal(holders: Holders) -> None:
    async with redis.asyncio.Redis.from_url(holders.url) as client:
        await client.hset(LEASE_KEY, mapping={"holder": b"evil\x1b[2J\xff" + b"x" * 10_000, "epoch": 1})
        await client.pexpire(LEASE_KEY, 3000)
        lease = holders.start("a")
        await holders.wait_for(lambda: "another hub (evil" in str(lease.error))
        assert str(lease.error).isprintable()
        assert len(str(lease.error)) < 500
        await holders.wait_for_holders("a")


async def test_a_new_holder_on_a_server_that_has_taken_over_waits_for_a_term(redis_server: Server) -> None:
    """A replica may lack the newest lease, so the lease of an active holder is missing from the new master."""

    async def acquire(holder: str, *, has_replicas: bool) -> int:
        """Return the age of the record of epochs, in milliseconds."""
        async with connect(redis_server.url) as client:
            script = client.register_script(load_script("lease_acquire"))
            reply = await script(keys=[LEASE_KEY, f"{LEASE_KEY}:epochs"], args=[holder, 60_000, "", int(has_replicas)])
        assert reply[0] > 0
        return int(reply[2])

    async def lose_the_lease() -> None:
        async with connect(redis_server.url) as client:
            assert await client.delete(LEASE_KEY)

    await acquire("a", has_replicas=True)
    await asyncio.sleep(0.3)
    await lose_the_lease()
    assert await acquire("b", has_replicas=True) >= 300, "the same server has all epochs"
    await asyncio.to_thread(redis_server.kill)
    await asyncio.to_thread(redis_server.start)  # with its data, and another run id
    await lose_the_lease()
    assert await acquire("c", has_replicas=False) >= 300, "without replicas, the data are those of the same server"
    await lose_the_lease()
    began = time.monotonic()
    assert await acquire("d", has_replicas=True) <= 1000 * (time.monotonic() - began) + 1, "a new record"
    await asyncio.sleep(0.3)
    assert await acquire("d", has_replicas=True) >= 300


@pytest.mark.long
async def test_a_failover_never_leads_to_two_holders(sentinel_set: Callable[..., SentinelSet]) -> None:
    servers = sentinel_set()
    hubs = Holders(servers.url)
    hubs.start("a")
    await hubs.wait_for_holders("a")
    hubs.start("b")
    failing_over = asyncio.create_task(asyncio.to_thread(servers.fail_over))
    await hubs.wait_for(failing_over.done)
    await hubs.wait_for(lambda: bool(hubs.holding()))
    for name in hubs.tasks:
        await hubs.end(name, orderly=False)
