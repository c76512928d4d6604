"""Limits in bytes: the result stream, dead letters, and the memory of the embedded broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from nvision_hub.broker import webhook_admin, webhook_queue
from nvision_hub.broker.client import RedisSettings, connect, trim_keys
from nvision_hub.broker.consumer_group import ConsumerGroup
from nvision_hub.broker.publisher import BATCH_BYTES, Publisher
from nvision_hub.broker.scripts import load_script
from nvision_hub.broker.webhook_queue import Delivery, WebhookKeys
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision.result_events import new_id
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_server import KeptValkey, Server

MIB: Final = 2**20
MAX_BYTES: Final = 8 * MIB
LARGE: Final = 156_000  # bytes of a result with images, as a review measured it
STREAM: Final = "nvision:results"
SIZES: Final = "nvision:results:sizes"


class Publishing:
    """A publisher, and the number of results that it was given."""

    def __init__(self, url: str, *, max_bytes: int = MAX_BYTES, max_entries: int = 100_000) -> None:
        self.meter = Meter()
        settings = RedisSettings(url=url, prefix="nvision", max_entries=max_entries, max_bytes=max_bytes)
        self.publisher = Publisher(settings, self.meter)
        self.count = 0

    async def publish(self, count: int, size: int) -> None:
        """Publish results one batch after another, and wait until Redis has all of them."""
        for _ in range(count):
            self.publisher.publish("lobby", {"hub": {"id": new_id()}, "pad": "x" * size})
            self.count += 1
            await self._wait_for(self.count - 20)
        await self._wait_for(self.count)

    async def _wait_for(self, published: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.meter.value(catalogue.RESULTS_PUBLISHED_TOTAL) < published:  # noqa: ASYNC110 - a counter
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def publishing(url: str, **options: Any) -> AsyncIterator[Publishing]:
    it = Publishing(url, **options)
    task = asyncio.create_task(it.publisher.run())
    try:
        yield it
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def stored(client: redis.Redis, stream: str = STREAM) -> list[int]:
    """Return the size of each entry in the stream, in bytes."""
    entries: Any = client.xrange(stream)
    return [sum(len(value) for value in fields.values()) for _, fields in entries]


async def test_large_results_stay_below_the_limit_and_each_is_counted(redis_server: Server) -> None:
    async with publishing(redis_server.url) as it:
        client = connect(redis_server.url)
        group = ConsumerGroup(client, stream=STREAM, name="archive", consumer="one")
        await group.create()
        await it.publish(311, LARGE)
        with redis.Redis.from_url(redis_server.url) as reader:
            sizes = stored(reader)
            assert MAX_BYTES - 2 * BATCH_BYTES < sum(sizes) <= MAX_BYTES
            assert reader.info("memory")["used_memory"] < 4 * MAX_BYTES
            assert reader.xlen(SIZES) <= len(sizes) + 1
        received, missed = 0, 0
        while (batch := await group.read(100)).entries or batch.trimmed.known:
            received += len(batch.entries)
            missed += batch.trimmed.known
        await client.aclose()
    assert received == len(sizes)
    assert received + missed == 311
    assert it.meter.total(catalogue.RESULTS_LOST_TOTAL) == 0, "the results reached Redis"


async def test_the_newest_result_stays_even_if_it_is_larger_than_the_limit(redis_server: Server) -> None:
    async with publishing(redis_server.url, max_bytes=MIB) as it:
        await it.publish(20, 1000)
        await it.publish(1, 3 * MIB)
        with redis.Redis.from_url(redis_server.url) as client:
            assert len(stored(client)) == 1
            await it.publish(1, 1000)
            assert len(stored(client)) == 1


async def test_both_limits_hold_at_the_same_time(redis_server: Server) -> None:
    async with publishing(redis_server.url, max_entries=100) as it:
        with redis.Redis.from_url(redis_server.url) as client:
            await it.publish(2000, 100)
            assert 100 <= len(stored(client)) <= 300, "Redis trims whole nodes of a hundred entries"
            assert client.xlen(SIZES) <= client.xlen(STREAM) + 1
            await it.publish(150, 100_000)
            assert MAX_BYTES - 2 * BATCH_BYTES < sum(stored(client)) <= MAX_BYTES


async def test_a_stream_of_an_earlier_version_is_measured_once(redis_server: Server) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        for _ in range(150):
            client.xadd(STREAM, {"camera": "lobby", "event": "x" * 100_000})
        async with publishing(redis_server.url) as it:
            await it.publish(1, 1000)
            assert MAX_BYTES / 2 < sum(stored(client)) <= MAX_BYTES
            await it.publish(200, LARGE)
            assert MAX_BYTES - 2 * BATCH_BYTES < sum(stored(client)) <= MAX_BYTES


@pytest.mark.parametrize("change", ["deleted", "trimmed", "sizes deleted", "sizes of another type", "no sizes"])
async def test_changes_by_other_programs_do_no_lasting_harm(redis_server: Server, change: str) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        async with publishing(redis_server.url) as it:
            await it.publish(40, LARGE)
            match change:
                case "deleted":
                    client.delete(STREAM)
                case "trimmed":
                    client.xtrim(STREAM, maxlen=3, approximate=False)
                case "sizes deleted":
                    client.delete(SIZES)
                case "sizes of another type":
                    client.delete(SIZES)
                    client.set(SIZES, "x")
                case _:
                    client.xadd(SIZES, {"bytes": "x"})
            await it.publish(100, LARGE)
            assert MAX_BYTES - 2 * BATCH_BYTES < sum(stored(client)) <= MAX_BYTES
            assert it.meter.value(catalogue.RESULTS_PUBLISHED_TOTAL) == it.count


async def test_a_redis_that_forgot_the_script_receives_each_result_once(redis_server: Server) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        async with publishing(redis_server.url) as it:
            await it.publish(1, 1000)
            client.script_flush()
            await it.publish(5, 1000)
            assert client.xlen(STREAM) == 6
            await it.publish(100, LARGE)
            assert sum(stored(client)) <= MAX_BYTES, "the publisher loaded the script again"
            assert it.meter.value(catalogue.RESULTS_PUBLISHED_TOTAL) == it.count


async def test_dead_letters_stay_below_their_limit(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_queue, "MAX_DEAD_BYTES", MIB)
    keys = WebhookKeys("nvision", "alarms")
    client = connect(redis_server.url)
    for number in range(50):
        async with client.pipeline(transaction=True) as pipe:
            delivery = Delivery(id=str(number), body=b"x" * 100_000, attempts=10)
            webhook_queue.move_to_dead_letters(pipe, keys, delivery, reason="test")
            await pipe.execute()
    letters: Any = await client.xrange(keys.dead)
    await client.aclose()
    assert [fields[b"id"] for _, fields in letters] == [b"%d" % number for number in range(40, 50)]


@pytest.mark.parametrize("last_id", ["1-1", "1-18446744073709551615"])
@pytest.mark.parametrize("sizes", ["another type", "no sizes"])
async def test_other_sizes_do_not_repeat_a_dead_letter(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch, last_id: str, sizes: str
) -> None:
    monkeypatch.setattr(webhook_queue, "MAX_DEAD_BYTES", MIB)
    keys = WebhookKeys("nvision", "alarms")
    with redis.Redis.from_url(redis_server.url) as other:
        other.xadd(keys.dead, {"webhook": "alarms", "event": "x" * MIB}, id=last_id)
        if sizes == "another type":
            other.set(f"{keys.dead}:sizes", "x")
        else:
            other.xadd(f"{keys.dead}:sizes", {"bytes": "x"}, id=last_id)
    client = connect(redis_server.url)
    for number in range(2):
        async with client.pipeline(transaction=True) as pipe:
            delivery = Delivery(id=str(number), body=b"x" * 100_000, attempts=10)
            webhook_queue.move_to_dead_letters(pipe, keys, delivery, reason="test")
            await pipe.execute()  # raises an error of the script; the outcome would then be written again
    letters: Any = await client.xrange(keys.dead)
    await client.aclose()
    assert [fields[b"id"] for _, fields in letters if b"id" in fields] == [b"0", b"1"]


async def test_replayed_dead_letters_no_longer_count_toward_the_limit(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_queue, "MAX_DEAD_BYTES", MIB)
    client = connect(redis_server.url)

    async def add(webhook: str, number: int, size: int) -> None:
        event_id = f"{webhook}-{number}"
        body = json.dumps({"hub": {"id": event_id}, "pad": "x" * size}).encode()
        delivery = Delivery(id=event_id, body=body, attempts=10)
        async with client.pipeline(transaction=True) as pipe:
            keys = WebhookKeys("nvision", webhook)
            webhook_queue.move_to_dead_letters(pipe, keys, delivery, reason="test")
            await pipe.execute()

    await add("archive", 0, 1000)
    for number in range(9):
        await add("alarms", number, 100_000)
    await add("archive", 1, 1000)
    assert (await webhook_admin.replay_dead(client, "nvision", "alarms")).queued == 9
    await add("archive", 2, 200_000)
    letters = await webhook_admin.dead_letters(client, "nvision")
    await client.aclose()
    assert [letter["id"] for letter in letters] == ["archive-2", "archive-1", "archive-0"]


def test_a_lower_limit_takes_effect_at_the_start_of_the_embedded_broker(
    kept_valkey: Callable[..., KeptValkey],
) -> None:
    server = kept_valkey()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        for _ in range(100):
            client.xadd(STREAM, {"camera": "lobby", "event": "x" * 100_000})
    server.close()
    server.stream_max_bytes = MIB
    server.start()
    with redis.Redis.from_url(server.url) as client:
        script, keys = load_script("results_trim"), trim_keys(STREAM)
        client.eval(script, len(keys), *keys, 0, MIB)  # runs after the broker's own trim, or does its work
        assert MIB / 2 < sum(stored(client)) <= MIB


def fill(client: redis.Redis, size: int) -> None:
    for number in range(size // MIB):
        client.set(f"key{number}", b"x" * MIB)


def test_the_embedded_broker_has_a_memory_limit(kept_valkey: Callable[..., KeptValkey]) -> None:
    server = kept_valkey(stream_max_bytes=MIB, is_open=True)
    server.start()
    limit = server.settings.max_memory_bytes
    assert limit < 600 * MIB
    with redis.Redis.from_url(server.settings.public_url) as client:
        assert client.info("memory")["maxmemory"] == limit
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            fill(client, limit)
        assert client.info("memory")["used_memory"] < limit + 64 * MIB
