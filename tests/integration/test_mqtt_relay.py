"""Results from real Redis servers to a publisher that comes and goes: none lost, what was trimmed counted exactly."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest
import redis

from nvision_hub.broker.connection import Stream
from nvision_hub.status import Meter
from workers.mqtt.relay import REFUSALS_MAX, Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.redis_server import Server

SOON_S = 30.0


@pytest.fixture
def client(redis_server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


def add(client: redis.Redis, *names: int, maxlen: int | None = None) -> None:
    for name in names:
        client.xadd(
            "site:results", {"camera": "lobby", "event": json.dumps(name)}, maxlen=maxlen, approximate=maxlen is None
        )


class Publisher:
    """One that writes down what it is given, and fails on order."""

    def __init__(self, url: str) -> None:
        self.meter = Meter()
        self.relay = Relay(Stream(url=url, prefix="site", max_entries=1000), self.meter)
        self.given: list[int] = []
        self.takes: Callable[[int], bool] = lambda _name: True

    async def publish(self, camera: str, event: bytes) -> None:
        assert camera == "lobby"
        name = json.loads(event)
        if not self.takes(name):
            raise ConnectionAbortedError
        self.given.append(name)

    @contextlib.asynccontextmanager
    async def here(self) -> AsyncIterator[None]:
        """The publisher is there for so long."""
        running = asyncio.create_task(self.relay.run(self.publish))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON_S):
            while not condition():  # noqa: ASYNC110 - what is waited for says nothing when it happens
                await asyncio.sleep(0.01)

    def counted(self, outcome: str) -> float:
        return self.meter.value("mqtt_published_total", outcome=outcome)


@pytest.fixture
async def publisher(redis_server: Server) -> AsyncIterator[Publisher]:
    made = Publisher(redis_server.url)
    yield made
    await made.relay.close()


def pending(client: redis.Redis) -> int:
    (group,) = client.xinfo_groups("site:results")
    return int(group["pending"] + (group["lag"] or 0))


async def test_it_begins_with_what_comes_from_now_on(client: redis.Redis, publisher: Publisher) -> None:
    add(client, 1, 2)
    await publisher.relay.join()
    add(client, 3, 4)
    await publisher.relay.count_pending()
    assert publisher.meter.gauge_value("mqtt_pending") == 2
    async with publisher.here():
        await publisher.until(lambda: publisher.given == [3, 4])
        await publisher.until(lambda: pending(client) == 0)
        add(client, 5)
        await publisher.until(lambda: publisher.given == [3, 4, 5])
        await publisher.until(publisher.relay.caught_up.is_set)
    await publisher.relay.count_pending()
    assert publisher.meter.gauge_value("mqtt_pending") == 0
    assert publisher.counted("published") == 3


async def test_what_left_the_stream_meanwhile_is_counted_to_the_entry(
    client: redis.Redis, publisher: Publisher
) -> None:
    await publisher.relay.join()
    add(client, *range(10))
    async with publisher.here():
        await publisher.until(lambda: len(publisher.given) == 10)
    add(client, *range(10, 40), maxlen=5)
    async with publisher.here():
        await publisher.until(lambda: publisher.given[10:] == [35, 36, 37, 38, 39])
    assert publisher.counted("missed") == 25
    assert publisher.counted("published") == 15


async def test_a_successor_takes_up_what_was_not_answered(
    client: redis.Redis, redis_server: Server, publisher: Publisher
) -> None:
    await publisher.relay.join()
    publisher.takes = lambda name: name < 3
    add(client, *range(6))
    with pytest.raises(ConnectionAbortedError):
        await publisher.relay.run(publisher.publish)
    assert publisher.given == [0, 1, 2]
    await publisher.relay.close()
    successor = Publisher(redis_server.url)
    async with successor.here():
        await successor.until(lambda: successor.given == [3, 4, 5])
    await successor.relay.close()
    assert pending(client) == 0


async def test_what_nobody_ever_takes_is_left_out(client: redis.Redis, publisher: Publisher) -> None:
    await publisher.relay.join()
    publisher.takes = lambda name: name != 1
    add(client, *range(4))
    client.xadd("site:results", {"somebody": "else"})
    client.xadd("site:results", {"camera": "a/+", "event": "5"})
    add(client, 6)
    for _ in range(REFUSALS_MAX + 1):
        with pytest.raises(ConnectionAbortedError):
            await publisher.relay.run(publisher.publish)
        publisher.relay.cut_off()
    async with publisher.here():
        await publisher.until(lambda: publisher.given[-1:] == [6])
        await publisher.until(lambda: pending(client) == 0)
    assert sorted(set(publisher.given)) == [0, 2, 3, 6]
    assert publisher.counted("refused") == 3


async def test_redis_dies_and_comes_back_empty(client: redis.Redis, redis_server: Server, publisher: Publisher) -> None:
    await publisher.relay.join()
    async with publisher.here():
        add(client, 1)
        await publisher.until(lambda: publisher.given == [1])
        redis_server.kill()
        await publisher.until(lambda: publisher.relay.error is not None)
        await asyncio.to_thread(redis_server.start)
        add(client, 2)
        await publisher.until(lambda: 2 in publisher.given)
        client.flushall()
        add(client, 3)  # before anybody has a group again
        await publisher.until(lambda: publisher.given[-1:] == [3])
        await publisher.until(lambda: publisher.relay.error is None)
    assert publisher.counted("missed") == 0
