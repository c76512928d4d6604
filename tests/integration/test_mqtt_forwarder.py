"""With real Redis servers, the forwarder loses no event if its publisher disconnects, and counts trimmed events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from nvision_hub.broker.client import RedisSettings
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision.result_events import encode
from tests.support import track_events
from tests.support.patience import PATIENCE_S
from workers.mqtt.event_forwarder import BLOCKED_S, MAX_REFUSALS, MAX_SKIPPED, RESULTS, TRACKS, EventForwarder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.redis_server import Server


@pytest.fixture
def client(redis_server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


def add(client: redis.Redis, *names: int, maxlen: int | None = None) -> None:
    for name in names:
        fields: dict[Any, Any] = {"camera": "lobby", "event": json.dumps({"hub": {"id": str(name)}})}
        client.xadd("site:results", fields, maxlen=maxlen, approximate=maxlen is None)


class Publisher:
    """Publisher that records its events and fails on demand."""

    def __init__(self, url: str) -> None:
        self.meter = Meter()
        settings = RedisSettings(url=url, prefix="site", max_entries=1000)
        self.relay = EventForwarder(settings, self.meter, RESULTS)
        self.given: list[int] = []
        self.accepts: Callable[[int], bool] = lambda _name: True

    async def publish(self, camera: str, event: bytes) -> None:
        assert camera == "lobby"
        name = int(json.loads(event)["hub"]["id"])
        if not self.accepts(name):
            raise ConnectionAbortedError
        self.given.append(name)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the forwarder with this publisher."""
        task = asyncio.create_task(self.relay.run(self.publish, asyncio.Lock()))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - the condition has no event to wait for
                await asyncio.sleep(0.01)

    def counted(self, outcome: str) -> float:
        return self.meter.value(catalogue.MQTT_PUBLISHED_TOTAL, outcome=outcome)


@pytest.fixture
async def publisher(redis_server: Server) -> AsyncIterator[Publisher]:
    made = Publisher(redis_server.url)
    yield made
    await made.relay.close()


def pending(client: redis.Redis) -> int:
    (group,) = client.xinfo_groups("site:results")
    return int(group["pending"] + (group["lag"] or 0))


async def test_a_new_forwarder_begins_with_new_results(client: redis.Redis, publisher: Publisher) -> None:
    add(client, 1, 2)
    await publisher.relay.join()
    add(client, 3, 4)
    assert await publisher.relay.count_pending() == 2
    async with publisher.running():
        await publisher.until(lambda: publisher.given == [3, 4])
        await publisher.until(lambda: pending(client) == 0)
        add(client, 5)
        await publisher.until(lambda: publisher.given == [3, 4, 5])
        await publisher.until(publisher.relay.caught_up.is_set)
    assert await publisher.relay.count_pending() == 0
    assert publisher.counted("published") == 3


async def test_entries_trimmed_during_an_outage_are_counted_exactly(client: redis.Redis, publisher: Publisher) -> None:
    await publisher.relay.join()
    add(client, *range(10))
    async with publisher.running():
        await publisher.until(lambda: len(publisher.given) == 10)
    add(client, *range(10, 40), maxlen=5)
    async with publisher.running():
        await publisher.until(lambda: publisher.given[10:] == [35, 36, 37, 38, 39])
    assert publisher.counted("missed") == 25
    assert publisher.counted("published") == 15


async def test_the_next_forwarder_publishes_unacknowledged_events(
    client: redis.Redis, redis_server: Server, publisher: Publisher
) -> None:
    await publisher.relay.join()
    publisher.accepts = lambda name: name < 3
    add(client, *range(6))
    with pytest.raises(ConnectionAbortedError):
        await publisher.relay.run(publisher.publish, asyncio.Lock())
    assert publisher.given == [0, 1, 2]
    await publisher.relay.close()
    successor = Publisher(redis_server.url)
    async with successor.running():
        await successor.until(lambda: successor.given == [3, 4, 5])
    await successor.relay.close()
    assert pending(client) == 0


async def test_events_of_a_canceled_read_are_published(
    client: redis.Redis, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publisher.relay.join()
    add(client, 1, 2)
    read = publisher.relay._group.read

    async def cancelled(count: int) -> None:
        await read(count)
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(publisher.relay._group, "read", cancelled)
        with pytest.raises(asyncio.CancelledError):
            await publisher.relay.run(publisher.publish, asyncio.Lock())
    add(client, 3)
    async with publisher.running():
        await publisher.until(lambda: publisher.given == [1, 2, 3])


async def test_an_event_that_is_never_accepted_is_skipped(client: redis.Redis, publisher: Publisher) -> None:
    await publisher.relay.join()
    publisher.accepts = lambda name: name != 1
    add(client, *range(4))
    client.xadd("site:results", {"another": "program"})
    client.xadd("site:results", {"camera": "a/+", "event": json.dumps({"hub": {"id": "5"}})})
    client.xadd("site:results", {"camera": "lobby", "event": "[1,2]"})
    add(client, 6)
    for _ in range(MAX_REFUSALS + 1):
        with pytest.raises(ConnectionAbortedError):
            await publisher.relay.run(publisher.publish, asyncio.Lock())
        publisher.relay.on_connection_closed()
    async with publisher.running():
        await publisher.until(lambda: publisher.given[-1:] == [6])
        await publisher.until(lambda: pending(client) == 0)
    assert sorted(set(publisher.given)) == [0, 2, 3, 6]
    assert publisher.counted("refused") == 4


async def test_an_event_at_fault_does_not_skip_track_events(
    client: redis.Redis, redis_server: Server, publisher: Publisher
) -> None:
    """Results and track events share a connection, which the MQTT broker closes at each attempt."""
    tracks = EventForwarder(
        RedisSettings(url=redis_server.url, prefix="site", max_entries=1000), publisher.meter, TRACKS
    )
    given: list[dict[str, Any]] = []

    async def publish_track_event(camera: str, event: bytes) -> None:
        assert camera == "dock"
        given.append(json.loads(event))

    await publisher.relay.join()
    await tracks.join()
    publisher.accepts = lambda name: name != 1
    add(client, 1)
    client.xadd("site:tracks", {"camera": "dock", "event": "{}"})
    events = [track_events.event(visits=()) for _ in range(3)]
    for each in events:
        client.xadd("site:tracks", {"camera": "dock", "event": encode(each)})

    async def run_both() -> None:
        turn = asyncio.Lock()
        async with asyncio.TaskGroup() as group:
            group.create_task(publisher.relay.run(publisher.publish, turn))
            group.create_task(tracks.run(publish_track_event, turn))

    for _ in range(MAX_REFUSALS + 1):
        with pytest.raises(ExceptionGroup):
            await run_both()
        publisher.relay.on_connection_closed()
        tracks.on_connection_closed()
    task = asyncio.create_task(tracks.run(publish_track_event, asyncio.Lock()))
    await publisher.until(lambda: len({each["id"] for each in given}) == len(events))
    await publisher.until(tracks.caught_up.is_set)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await tracks.close()
    assert [each for number, each in enumerate(given) if each not in given[:number]] == events, "in order"
    assert publisher.counted("refused") == 1
    refused = publisher.meter.value(catalogue.MQTT_TRACK_EVENTS_TOTAL, outcome="refused")
    assert refused == 1, "the entry that is not an event"


async def test_only_connections_that_an_event_closes_count_as_its_refusals(
    client: redis.Redis, publisher: Publisher
) -> None:
    """Between them, the broker closes connections for other reasons, such as restarts."""
    await publisher.relay.join()

    async def lose_connection() -> None:
        """Close a connection on which this forwarder gets no turn."""
        turn = asyncio.Lock()
        await turn.acquire()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(publisher.relay.run(publisher.publish, turn), 0.1)
        publisher.relay.on_connection_closed()

    publisher.accepts = lambda _name: False
    add(client, 1)
    with pytest.raises(ConnectionAbortedError):
        await publisher.relay.run(publisher.publish, asyncio.Lock())
    publisher.relay.on_connection_closed()
    for _ in range(MAX_REFUSALS + 1):
        await lose_connection()
    assert publisher.counted("refused") == 0
    for _ in range(MAX_REFUSALS):
        with pytest.raises(ConnectionAbortedError):
            await publisher.relay.run(publisher.publish, asyncio.Lock())
        publisher.relay.on_connection_closed()
    assert publisher.counted("refused") == 1
    for _ in range(MAX_REFUSALS + 2):  # nothing is left to publish
        await lose_connection()
    assert publisher.counted("refused") == 1


async def test_a_topic_that_the_broker_does_not_accept_costs_few_connections(
    client: redis.Redis, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await publisher.relay.join()
    publisher.accepts = lambda _name: False
    add(client, *range(20))
    for _ in range((MAX_REFUSALS + 1) * MAX_SKIPPED):
        with pytest.raises(ConnectionAbortedError):
            await publisher.relay.run(publisher.publish, asyncio.Lock())
        publisher.relay.on_connection_closed()
    assert publisher.counted("refused") == MAX_SKIPPED
    assert "allow the topic in the rules of the broker" in caplog.text
    async with publisher.running():
        await publisher.until(lambda: publisher.counted("refused") == 20)
        add(client, 20)
        await publisher.until(lambda: publisher.counted("refused") == 21)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + BLOCKED_S)
    publisher.accepts = lambda _name: True
    add(client, 21)
    async with publisher.running():
        await publisher.until(lambda: publisher.given == [21])


async def test_forwarding_continues_after_redis_returns_empty(
    client: redis.Redis, redis_server: Server, publisher: Publisher
) -> None:
    await publisher.relay.join()
    async with publisher.running():
        add(client, 1)
        await publisher.until(lambda: publisher.given == [1])
        redis_server.kill()
        await publisher.until(lambda: publisher.relay.error is not None)
        await asyncio.to_thread(redis_server.start)
        add(client, 2)
        await publisher.until(lambda: 2 in publisher.given)
        client.flushall()
        add(client, 3)  # before the forwarder has created the group again
        await publisher.until(lambda: publisher.given[-1:] == [3])
        await publisher.until(lambda: publisher.relay.error is None)
    assert publisher.counted("missed") == 0
