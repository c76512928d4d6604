"""The reader of a webhook's streams and queue, with an in-memory Redis."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from nvision_hub.broker import webhook_queue
from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.broker.webhook_queue import Delivery, WebhookKeys
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision import result_events
from nvision_hub.testing import InMemoryHub
from nvision_hub.tracking.changes import Change, ChangeType
from nvision_hub.tracking.cloud_events import cloud_event
from tests.support import track_events
from tests.support.dispatching import PREFIX, event, webhook
from tests.support.patience import PATIENCE_S
from workers.webhooks import consumer
from workers.webhooks.consumer import DeliveryConsumer
from workers.webhooks.outcome_writer import AckWriter
from workers.webhooks.stats import WebhookStats

if TYPE_CHECKING:
    import redis.asyncio

RESULTS, TRACKS = f"{PREFIX}:results", f"{PREFIX}:tracks"
KEYS = WebhookKeys(PREFIX, "alarms")
OTHER_TRACK = result_events.new_id(track_events.NOW)
BOTH = ["result", "track.started"]


class Reader:
    """The consumer of one run of the webhooks worker, and what it works with."""

    def __init__(self, client: redis.asyncio.Redis, events: list[str], **options: Any) -> None:
        self.meter = Meter()
        self.acks = AckWriter(client, KEYS, site="test")
        self.deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self.consumer = DeliveryConsumer(
            client,
            KEYS,
            event_filter=WebhookFilter.of({"events": events, **options}),
            since=datetime.now(UTC),
            deliveries=self.deliveries,
            acks=self.acks,
            stats=WebhookStats(webhook("alarms", "http://127.0.0.1:9/", events=events, **options), self.meter),
        )

    def accepted(self) -> list[Delivery]:
        """Return the deliveries that the consumer has read since the last call."""
        return [self.deliveries.get_nowait() for _ in range(self.deliveries.qsize())]

    async def read(self, count: int = 100) -> list[Delivery]:
        while await self.consumer.read_new(count):
            pass
        return self.accepted()

    async def write(self) -> None:
        """Write all outcomes."""
        written = asyncio.Event()

        def on_written(acks: Any) -> None:
            self.consumer.release(acks)
            if not self.acks.unwritten:
                written.set()

        if self.acks.unwritten:
            task = asyncio.create_task(self.acks.run(on_written))
            async with asyncio.timeout(PATIENCE_S):
                await written.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def missed(self) -> float:
        return self.meter.value(catalogue.WEBHOOK_MISSED_TOTAL, webhook="alarms")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> redis.asyncio.Redis:
    async def unknown(*_: Any) -> int:
        return 0

    monkeypatch.setattr(webhook_queue, "waiting_bytes", unknown)  # the in-memory Redis has no MEMORY
    return InMemoryHub().async_redis(protocol=2)


async def publish(client: redis.asyncio.Redis, *events: dict[str, Any]) -> list[str]:
    """Add results and events of tracks to their streams. Return their ids."""
    ids = []
    for each in events:
        is_result = "hub" in each
        fields: dict[Any, Any] = {
            "camera": "lobby" if is_result else each["data"]["track"]["camera"],
            "event": result_events.encode(each),
        }
        await client.xadd(RESULTS if is_result else TRACKS, fields)
        ids.append(each["hub"]["id"] if is_result else each["id"])
    return ids


def ids_of(deliveries: list[Delivery]) -> list[str]:
    return [each.id for each in deliveries]


async def queue(client: redis.asyncio.Redis, *deliveries: Delivery) -> None:
    async with client.pipeline(transaction=True) as pipe:
        for each in deliveries:
            webhook_queue.put(pipe, KEYS, each, due=1.0)
        await pipe.execute()


async def test_a_stream_that_a_webhook_needs_again_starts_with_new_events(client: redis.asyncio.Redis) -> None:
    first = Reader(client, ["result"])
    await first.consumer.open()
    await publish(client, event(1))
    assert len(await first.read()) == 1
    second = Reader(client, ["track.started"])
    await second.consumer.open()
    await publish(client, *(event(number) for number in range(50)), track_events.open_event())
    (started,) = await second.read()
    second.acks.finish(started)
    await second.write()
    await client.xtrim(RESULTS, maxlen=10, approximate=False)
    third = Reader(client, BOTH)
    await third.consumer.open()
    assert await third.read() == []
    expected = await publish(client, event(51))
    assert ids_of(await third.read()) == expected
    assert third.missed == 0


async def test_deliveries_in_the_queue_remain_if_only_a_stream_is_lost(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, BOTH)
    await reader.consumer.open()
    await queue(client, *(Delivery(id=f"d{n}", body=result_events.encode(event(n))) for n in range(7)))
    await reader.consumer.sync("{}")
    assert reader.acks.queued == 7
    assert await reader.consumer.read_due(2) == 2
    await client.delete(TRACKS)
    with pytest.raises(RedisError):
        await reader.consumer.read_new(1)
    await reader.consumer.open()
    assert reader.missed == 0
    expected = await publish(client, track_events.open_event())
    reader.accepted()
    assert ids_of(await reader.read()) == expected


async def test_deliveries_that_the_queue_has_lost_are_counted_once(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, BOTH)
    await reader.consumer.open()
    await queue(client, *(Delivery(id=f"d{n}", body=result_events.encode(event(n))) for n in range(7)))
    await reader.consumer.sync("{}")
    assert await reader.consumer.read_due(3) == 3
    delivered, *in_hand = reader.accepted()
    reader.acks.finish(delivered)
    await reader.write()
    assert reader.acks.queued == 6
    await client.flushall()
    with pytest.raises(RedisError):
        await reader.consumer.sync("{}")
    await reader.consumer.open()
    assert reader.missed == 4
    for each in in_hand:
        reader.acks.finish(each)
    await reader.write()
    await client.delete(TRACKS)
    await reader.consumer.open()
    assert reader.missed == 4


async def test_results_are_read_while_many_track_events_arrive(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, BOTH)
    await reader.consumer.open()
    (result,) = await publish(client, event(1))
    await publish(client, *(track_events.open_event() for _ in range(10)))
    await reader.consumer.read_new(2)
    await reader.consumer.read_new(2)
    assert result in ids_of(reader.accepted())


@pytest.mark.parametrize("failing", ["tracks", "results", "replay"])
async def test_events_since_the_configuration_arrive_if_the_first_start_fails(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    reader = Reader(client, BOTH)
    expected = await publish(client, event(1), track_events.open_event())

    async def fail(*_: Any, **__: Any) -> bool:
        raise RedisConnectionError

    with monkeypatch.context() as patched:
        if failing == "replay":
            patched.setattr(client, "xrange", fail)
        else:
            patched.setattr(reader.consumer._groups[failing], "create", fail)  # type: ignore[index]
        with pytest.raises(RedisConnectionError):
            await reader.consumer.open()
    expected += await publish(client, event(2))
    await reader.consumer.open()
    await reader.consumer.read_due(10)
    await reader.consumer.read_new(10)
    assert sorted(ids_of(reader.accepted())) == sorted(expected), "each event once"


async def test_an_entry_with_a_constant_and_deep_nesting_is_set_aside(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, BOTH)
    await reader.consumer.open()
    nested = b'{"NaN":' + b"[" * 200_000
    await queue(client, Delivery(id="nested", body=nested))
    for stream in (RESULTS, TRACKS):
        await client.xadd(stream, {"camera": "lobby", "event": nested})
    expected = await publish(client, event(1))
    assert ids_of(await reader.read()) == expected
    assert await reader.consumer.read_due(10) == 0
    assert await client.xlen(KEYS.dead) == 1


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_the_end_of_a_delivered_track_arrives_with_any_class(
    client: redis.asyncio.Redis, *, is_restarted: bool
) -> None:
    chosen: dict[str, Any] = {"events": ["track.started", "track.ended"], "classes": ["person"]}
    reader = Reader(client, **chosen)
    await reader.consumer.open()
    (known,) = await publish(client, track_events.event(ChangeType.STARTED))
    await publish(client, track_events.event(ChangeType.STARTED, id=OTHER_TRACK, class_name="car"))
    (started,) = await reader.read()
    assert started.id == known
    reader.acks.finish(started)
    await reader.write()
    if is_restarted:
        reader = Reader(client, **chosen)
        await reader.consumer.open()
    await publish(client, track_events.event(ChangeType.ENDED, id=OTHER_TRACK, class_name="car"))
    expected = await publish(client, track_events.event(ChangeType.ENDED, class_name="car"))
    (ended,) = await reader.read()
    assert [ended.id] == expected
    assert await client.scard(KEYS.begun) == 1, "a successor would still deliver the end"
    reader.acks.finish(ended)
    await reader.write()
    assert await client.scard(KEYS.begun) == 0


async def test_a_zone_that_is_entered_again_stays_known(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, ["zone.entered", "zone.left"], classes=["person"])
    await reader.consumer.open()

    async def deliver(change_type: ChangeType, class_name: str = "person") -> None:
        track = replace(track_events.STATE, class_name=class_name)
        change = Change(type=change_type, at=track_events.NOW, track=track, zone="bay")
        await publish(client, cloud_event(change, track_events.ORIGIN))

    await deliver(ChangeType.ZONE_ENTERED)
    await deliver(ChangeType.ZONE_LEFT)
    await deliver(ChangeType.ZONE_ENTERED)
    for each in await reader.read():
        reader.acks.finish(each)
    await reader.write()
    successor = Reader(client, ["zone.entered", "zone.left"], classes=["person"])
    await successor.consumer.open()
    await deliver(ChangeType.ZONE_LEFT, "car")
    assert len(await successor.read()) == 1
    await deliver(ChangeType.ZONE_LEFT, "car")
    assert await successor.read() == []


async def test_only_the_latest_beginnings_are_kept(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "_MAX_BEGUN", 3)
    reader = Reader(client, ["track.started", "track.ended"], min_confidence=0.5)
    await reader.consumer.open()
    started = [track_events.open_event() for _ in range(5)]
    await publish(client, *started)
    await reader.read()
    await reader.write()
    assert await client.smembers(KEYS.begun) == {each["subject"].encode() for each in started[2:]}
