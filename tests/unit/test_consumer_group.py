"""Consumer groups in memory, on a real Redis and on a real Valkey: the count of trimmed entries is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError

from nvision_hub.broker.consumer_group import ConsumerGroup, EntryBatch, TrimmedCount
from tests.support.group_losses import group_losses, is_lossy

if TYPE_CHECKING:
    import redis.asyncio

STREAM = "site:results"
NOTHING = TrimmedCount(undelivered=0, unacknowledged=0)


def group_of(client: redis.asyncio.Redis, consumer: str = "one") -> ConsumerGroup:
    return ConsumerGroup(client, stream=STREAM, name="webhooks", consumer=consumer)


async def add(client: redis.asyncio.Redis, numbers: range, keep: int = 200) -> None:
    async with client.pipeline(transaction=True) as pipe:
        for number in numbers:
            pipe.xadd(STREAM, {"number": number}, maxlen=keep, approximate=True)
        await pipe.execute()


def numbers(batch: EntryBatch) -> list[int]:
    return [int(fields[b"number"]) for _, fields in batch.entries]


async def test_entries_trimmed_between_two_reads_are_counted_once(redis_client: redis.asyncio.Redis) -> None:
    group = group_of(redis_client)
    assert await group.create()
    assert not await group.create()
    await add(redis_client, range(150))
    assert numbers(await group.read(50)) == list(range(50))
    seen, lost = 50, 0
    for start in range(150, 3150, 300):  # each round trims entries and reads only a few
        await add(redis_client, range(start, start + 300))
        losses = await group_losses(redis_client, STREAM, "webhooks")
        batch = await group.read(10)
        assert losses.undelivered == batch.trimmed.undelivered
        assert batch.trimmed.undelivered is not None
        lost += batch.trimmed.undelivered
        assert numbers(batch)[0] == seen + lost, "every missing entry must be counted before this batch"
        seen += len(batch.entries)
    assert lost > 2000
    rest = await group.read(10_000)
    assert rest.trimmed == NOTHING
    assert numbers(rest)[-1] == 3149
    assert seen + lost + len(rest.entries) == 3150
    assert await group.read(10) == EntryBatch()


async def test_entries_trimmed_before_their_acknowledgement_are_counted(redis_client: redis.asyncio.Redis) -> None:
    first = group_of(redis_client)
    await first.create()
    await add(redis_client, range(150))
    given = await first.read(120)
    await first.acknowledge(*(entry for entry, _ in given.entries[:20]))
    await first.acknowledge()
    await add(redis_client, range(150, 350))
    losses = await group_losses(redis_client, STREAM, "webhooks")
    assert losses == TrimmedCount(undelivered=0, unacknowledged=80)
    assert is_lossy(losses)
    second = group_of(redis_client, "two")
    resumed = await second.resume()
    assert numbers(resumed) == list(range(100, 120))
    assert resumed.trimmed == TrimmedCount(undelivered=0, unacknowledged=80)
    assert (await second.resume(idle_s=60)) == EntryBatch()
    assert await group_losses(redis_client, STREAM, "webhooks") == NOTHING
    assert numbers(await second.read(1)) == [120]


async def test_a_new_group_misses_nothing_from_before_its_creation(redis_client: redis.asyncio.Redis) -> None:
    await add(redis_client, range(1000))
    late = group_of(redis_client)
    await late.create()
    assert not is_lossy(await group_losses(redis_client, STREAM, "webhooks"))
    assert await late.read(10) == EntryBatch()
    await add(redis_client, range(1000, 1500))
    batch = await late.read(1)
    assert batch.trimmed.undelivered == numbers(batch)[0] - 1000
    whole = ConsumerGroup(redis_client, stream=STREAM, name="whole", consumer="one")
    await whole.create(from_start=True)
    batch = await whole.read(10_000)
    assert batch.trimmed == NOTHING
    assert numbers(batch)[-1] == 1499


async def test_reading_continues_after_the_stream_is_emptied_or_deleted(redis_client: redis.asyncio.Redis) -> None:
    group = group_of(redis_client)
    await group.create()
    await add(redis_client, range(100))
    await group.read(10)
    await redis_client.xtrim(STREAM, maxlen=0, approximate=False)
    assert await group_losses(redis_client, STREAM, "webhooks") == TrimmedCount(undelivered=90, unacknowledged=10)
    assert await group.read(10) == EntryBatch(trimmed=TrimmedCount(undelivered=90, unacknowledged=0))
    await add(redis_client, range(100, 110))
    assert numbers(await group.read(10)) == list(range(100, 110))
    await redis_client.delete(STREAM)
    with pytest.raises(ResponseError, match="no such key"):
        await group.read(10)
    await add(redis_client, range(5))
    with pytest.raises(ResponseError, match="NOGROUP"):
        await group.read(10)
    await group.create(from_start=True)
    assert numbers(await group.read(10)) == list(range(5))


async def test_the_gap_of_a_group_made_by_another_program_may_be_unknown(redis_client: redis.asyncio.Redis) -> None:
    await add(redis_client, range(10))
    await redis_client.xgroup_create(STREAM, "webhooks", "$")
    await add(redis_client, range(10, 1000))
    losses = await group_losses(redis_client, STREAM, "webhooks")
    assert losses == TrimmedCount(undelivered=None, unacknowledged=0)
    assert is_lossy(losses)
    assert (await group_of(redis_client).read(1)).trimmed.undelivered is None
    assert (await group_of(redis_client).read(1)).trimmed.undelivered == 0, "after one read, Redis knows the number"


async def test_scripts_work_after_redis_has_lost_them(redis_client: redis.asyncio.Redis) -> None:
    group = group_of(redis_client)
    await group.create()
    await add(redis_client, range(3))
    assert numbers(await group.read(1)) == [0]
    await redis_client.script_flush()
    assert numbers(await group.read(10)) == [1, 2]
    await redis_client.script_flush()
    assert not await group.create()
