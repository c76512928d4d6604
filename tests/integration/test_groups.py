"""Consumer groups on real Redis servers of both kinds: what was trimmed before they had it is counted to the entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError

from nvision_hub.broker.groups import Batch, Group, Trimmed, trimmed
from nvision_hub.broker.publisher import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis.asyncio

    from tests.support.redis_server import Server

STREAM = "site:results"
NOTHING = Trimmed(undelivered=0, unacknowledged=0)


@pytest.fixture
async def client(redis_server: Server) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect(redis_server.url)
    yield client
    await client.aclose()


def group_of(client: redis.asyncio.Redis, consumer: str = "one") -> Group:
    return Group(client, stream=STREAM, name="webhooks", consumer=consumer)


async def add(client: redis.asyncio.Redis, numbers: range, keep: int = 200) -> None:
    async with client.pipeline(transaction=True) as pipe:
        for number in numbers:
            pipe.xadd(STREAM, {"number": number}, maxlen=keep, approximate=True)
        await pipe.execute()


def numbers(batch: Batch) -> list[int]:
    return [int(fields[b"number"]) for _, fields in batch.entries]


async def test_what_is_trimmed_between_two_reads_is_counted_once(client: redis.asyncio.Redis) -> None:
    group = group_of(client)
    assert await group.create()
    assert not await group.create()
    await add(client, range(150))
    assert numbers(await group.read(50)) == list(range(50))
    seen, lost = 50, 0
    for start in range(150, 3150, 300):  # gap after gap, with little read in between
        await add(client, range(start, start + 300))
        told = await trimmed(client, STREAM, "webhooks")
        batch = await group.read(10)
        assert told.undelivered == batch.trimmed.undelivered
        assert batch.trimmed.undelivered is not None
        lost += batch.trimmed.undelivered
        assert numbers(batch)[0] == seen + lost, "whatever is missing before it has been counted"
        seen += len(batch.entries)
    assert lost > 2000
    rest = await group.read(10_000)
    assert rest.trimmed == NOTHING
    assert numbers(rest)[-1] == 3149
    assert seen + lost + len(rest.entries) == 3150
    assert await group.read(10) == Batch()


async def test_what_was_given_and_trimmed_before_it_was_acknowledged_is_counted(client: redis.asyncio.Redis) -> None:
    first = group_of(client)
    await first.create()
    await add(client, range(150))
    given = await first.read(120)
    await first.acknowledge(*(entry for entry, _ in given.entries[:20]))
    await first.acknowledge()
    await add(client, range(150, 350))
    told = await trimmed(client, STREAM, "webhooks")
    assert told == Trimmed(undelivered=0, unacknowledged=80)
    assert told.any
    second = group_of(client, "two")
    resumed = await second.resume()
    assert numbers(resumed) == list(range(100, 120))
    assert resumed.trimmed == Trimmed(undelivered=0, unacknowledged=80)
    assert (await second.resume(idle_s=60)) == Batch()
    assert await trimmed(client, STREAM, "webhooks") == NOTHING
    assert numbers(await second.read(1)) == [120]


async def test_a_group_is_owed_nothing_from_before_it_was_made(client: redis.asyncio.Redis) -> None:
    await add(client, range(1000))
    late = group_of(client)
    await late.create()
    assert not (await trimmed(client, STREAM, "webhooks")).any
    assert await late.read(10) == Batch()
    await add(client, range(1000, 1500))
    batch = await late.read(1)
    assert batch.trimmed.undelivered == numbers(batch)[0] - 1000
    whole = Group(client, stream=STREAM, name="whole", consumer="one")
    await whole.create(from_start=True)
    batch = await whole.read(10_000)
    assert batch.trimmed == NOTHING
    assert numbers(batch)[-1] == 1499


async def test_a_stream_that_is_emptied_and_one_that_is_gone(client: redis.asyncio.Redis) -> None:
    group = group_of(client)
    await group.create()
    await add(client, range(100))
    await group.read(10)
    await client.xtrim(STREAM, maxlen=0, approximate=False)
    assert await trimmed(client, STREAM, "webhooks") == Trimmed(undelivered=90, unacknowledged=10)
    assert await group.read(10) == Batch(trimmed=Trimmed(undelivered=90, unacknowledged=0))
    await add(client, range(100, 110))
    assert numbers(await group.read(10)) == list(range(100, 110))
    await client.delete(STREAM)
    with pytest.raises(ResponseError, match="no such key"):
        await group.read(10)
    await add(client, range(5))
    with pytest.raises(ResponseError, match="NOGROUP"):
        await group.read(10)
    await group.create(from_start=True)
    assert numbers(await group.read(10)) == list(range(5))


async def test_of_a_group_that_somebody_else_made_the_gap_may_be_unknown(client: redis.asyncio.Redis) -> None:
    await add(client, range(10))
    await client.xgroup_create(STREAM, "webhooks", "$")
    await add(client, range(10, 1000))
    told = await trimmed(client, STREAM, "webhooks")
    assert told == Trimmed(undelivered=None, unacknowledged=0)
    assert told.any
    assert (await group_of(client).read(1)).trimmed.undelivered is None
    assert (await group_of(client).read(1)).trimmed.undelivered == 0, "from here on Redis knows"
