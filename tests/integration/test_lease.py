"""Leases on a real Redis: one holder at a time, whoever dies, stands still, is cut off, or has its record lost."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import pytest
import redis.asyncio

from nvision_hub.broker.lease import Lease, LeaseSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_server import Server

TERM_S: Final = 1.5
WITHIN_S: Final = 30.0
LOOK_EVERY_S: Final = 0.01


class Holders:
    """Several hubs that want the same camera; watches that never two of them hold it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.leases: dict[str, Lease] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, url: str | None = None) -> Lease:
        settings = LeaseSettings(url=url or self.url, prefix="nvision", holder=name, term_s=TERM_S)
        lease = self.leases[name] = Lease(settings, "lobby")
        self.tasks[name] = asyncio.create_task(lease.run())
        return lease

    async def until(self, *names: str) -> float:
        """Wait until exactly these hold it; how long that took."""
        return await self.comes(lambda: self.holding() == set(names))

    async def comes(self, condition: Callable[[], bool]) -> float:
        """Wait for it, looking all the time; how long that took."""
        began = time.monotonic()
        for _ in range(int(WITHIN_S / LOOK_EVERY_S)):
            self.holding()
            if condition():
                return time.monotonic() - began
            await asyncio.sleep(LOOK_EVERY_S)
        raise AssertionError({name: lease.error for name, lease in self.leases.items()})

    def holding(self) -> set[str]:
        now = time.monotonic()
        found = {name for name, lease in self.leases.items() if lease.held(now)}
        assert len(found) <= 1, f"{found} hold it at once"
        return found

    async def end(self, name: str, *, orderly: bool) -> None:
        """Give it up, or die with it: then nobody says goodbye."""
        if not orderly:
            self.leases[name]._epoch = -1  # what it gives up is then none of its own
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)


@pytest.fixture
async def holders(redis_server: Server) -> AsyncIterator[Holders]:
    found = Holders(redis_server.url)
    yield found
    for name in found.tasks:
        await found.end(name, orderly=False)


async def test_the_first_waits_a_term_and_an_orderly_end_hands_over_at_once(holders: Holders) -> None:
    first = holders.start("a")
    assert await holders.until("a") > 0.5 * TERM_S, "a record that young may be all that is left of another"
    second = holders.start("b")
    await holders.comes(lambda: "another hub (a)" in str(second.error))
    assert first.error is None or "one term" in first.error
    await holders.end("a", orderly=True)
    await holders.until("b")
    assert second.epoch > first.epoch


async def test_who_dies_is_followed_after_its_term(holders: Holders) -> None:
    holders.start("a")
    await holders.until("a")
    holders.start("b")
    await holders.end("a", orderly=False)
    await holders.until("b")


async def test_the_next_worker_of_the_same_hub_does_not_wait(holders: Holders) -> None:
    holders.start("a")
    await holders.until("a")
    before = holders.leases["a"].epoch
    await holders.end("a", orderly=False)
    lease = holders.start("a")
    assert await holders.until("a") < 0.5 * TERM_S
    assert lease.epoch == before + 1


class Wire:
    """A way to Redis that can go dead: what is sent then arrives nowhere, and no end is told."""

    def __init__(self, url: str) -> None:
        self._there = urlsplit(url)
        self.dead = False
        self._passing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = self._there
        far_reader, far_writer = (
            await asyncio.open_unix_connection(there.path)
            if there.scheme == "unix"
            else await asyncio.open_connection(there.hostname, there.port)
        )
        for source, target in ((reader, far_writer), (far_reader, writer)):
            self._passing.add(asyncio.create_task(self._pass(source, target)))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if not self.dead:
                    writer.write(data)
        finally:
            writer.transport.abort()

    async def __aexit__(self, *_error: object) -> None:
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        self._server.close()
        await asyncio.sleep(0)  # what was aborted is closed in the loop's next turn


@pytest.mark.long
async def test_who_is_cut_off_from_redis_stops_before_another_begins(holders: Holders) -> None:
    async with Wire(holders.url) as wire:
        cut_off = holders.start("a", wire.url)
        await holders.until("a")
        holders.start("b")
        wire.dead = True
        await holders.until("b")
        await holders.comes(lambda: "Redis cannot say" in str(cut_off.error))
        wire.dead = False
        await holders.comes(lambda: "another hub (b)" in str(cut_off.error))
        await holders.end("a", orderly=False)


async def test_where_redis_has_forgotten_all_never_two_hold_it(holders: Holders) -> None:
    holders.start("a")
    await holders.until("a")
    holders.start("b")
    async with redis.asyncio.Redis.from_url(holders.url) as client:
        for _ in range(3):
            await client.flushall()
            for _ in range(int(WITHIN_S / LOOK_EVERY_S)):
                if await client.exists("nvision:leases:{lobby}"):
                    break
                await asyncio.sleep(LOOK_EVERY_S)
            await holders.comes(lambda: bool(holders.holding()))
