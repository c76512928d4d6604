"""Clients of the hub on real Sentinel sets and Clusters: they find the master, and follow it to another server."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, Final

import pytest
from redis.exceptions import RedisError

from nvision_hub.broker.client import RedisConnection, RedisSettings, connect, connect_sync, follow_channel
from nvision_hub.broker.consumer_group import ConsumerGroup
from nvision_hub.broker.discovery import NotMasterError
from nvision_hub.broker.publisher import Publisher
from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision.result_events import new_id
from tests.support.patience import PATIENCE_S
from tests.support.redis_topologies import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_topologies import Cluster, SentinelSet

pytestmark = pytest.mark.slow

PREFIX: Final = "{nvision}"
PASSWORD: Final = "of/redis@1"
SENTINEL_PASSWORD: Final = "of:the%sentinels"


@pytest.fixture(params=["sentinel", "cluster"])
def topology(
    request: pytest.FixtureRequest,
    sentinel_set: Callable[..., SentinelSet],
    redis_cluster: Callable[..., Cluster],
) -> SentinelSet | Cluster:
    return sentinel_set() if request.param == "sentinel" else redis_cluster()


class Clients:
    """A publisher, a subscriber and a consumer of one Redis. The publisher has a new result every few milliseconds."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.meter = Meter()
        self.publisher = Publisher(RedisSettings(url=url, prefix=PREFIX, max_entries=100_000), self.meter)
        self.published: list[str] = []
        self.heard: list[bytes] = []
        self.consumed: dict[bytes, bytes] = {}  # entry id -> event

    async def publish(self) -> None:
        while True:
            self.published.append(new_id())
            self.publisher.publish("lobby", {"hub": {"id": self.published[-1]}})
            await asyncio.sleep(0.005)

    async def subscribe(self) -> None:
        async for message in follow_channel(self.url, f"{PREFIX}:results:lobby"):
            self.heard.append(message)

    async def consume(self) -> None:
        client = connect(self.url)
        group = ConsumerGroup(client, stream=f"{PREFIX}:results", name="archive", consumer="one")
        joined = False
        while True:
            try:
                if not joined:
                    await group.create(from_start=True)
                    batches = [await group.resume()]
                    joined = True
                else:
                    batches = [await group.read(100)]
                for batch in batches:
                    self.consumed |= {entry: fields[b"event"] for entry, fields in batch.entries}
                    await group.acknowledge(*(entry for entry, _ in batch.entries))
                if not batches[0].entries:
                    await group.wait(1.0)
            except (RedisError, OSError):
                joined = False
                await asyncio.sleep(0.1)

    def in_stream(self) -> list[bytes]:
        with connect_sync(self.url) as client:
            found: Any = client.xrange(f"{PREFIX}:results")
        return [fields[b"event"] for _, fields in found]


@pytest.fixture
async def clients(topology: SentinelSet | Cluster) -> AsyncIterator[Clients]:
    running = Clients(topology.url)
    tasks = [
        asyncio.create_task(each)
        for each in (running.publisher.run(), running.publish(), running.subscribe(), running.consume())
    ]
    yield running
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def becomes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.01)


async def test_publisher_subscriber_and_consumer_follow_the_master(
    topology: SentinelSet | Cluster, clients: Clients
) -> None:
    await becomes(lambda: bool(clients.heard) and len(clients.consumed) > 50)
    await asyncio.to_thread(topology.fail_over)
    published, heard, consumed = len(clients.published), len(clients.heard), len(clients.consumed)
    await becomes(lambda: len(clients.heard) > heard + 50 and len(clients.consumed) > consumed + 50)
    last = published + 100
    await becomes(lambda: len(clients.published) > last and clients.publisher.results_waiting == 0)
    expected = set(clients.published[:last])

    def ids(events: list[bytes]) -> set[str]:
        return {event.decode().partition('"id":"')[2].partition('"')[0] for event in events}

    assert expected <= ids(await asyncio.to_thread(clients.in_stream))
    await becomes(lambda: expected <= ids(list(clients.consumed.values())))
    assert clients.meter.value(catalogue.RESULTS_RESENT_TOTAL) > 0, "the new master may lack the newest results"
    assert clients.meter.value(catalogue.RESULTS_LOST_TOTAL, reason="redis_away") == 0


async def test_scripts_and_transactions_of_the_hub_work(topology: SentinelSet | Cluster) -> None:
    settings = RedisSettings(url=topology.url, prefix=PREFIX, max_entries=100, max_bytes=10_000)
    connection = RedisConnection(settings)
    await connection.open()
    events = [OutgoingEvent(id=str(at), camera="lobby", payload=b"x" * 900, received_at=0.0) for at in range(5)]
    for _ in range(10):
        await connection.send(events)
    await connection.close()
    async with connect(topology.url) as client, client.pipeline(transaction=True) as pipe:
        pipe.xlen(f"{PREFIX}:results")
        pipe.xlen(f"{PREFIX}:results:sizes")
        pipe.set(f"{PREFIX}:webhooks:a:state", "1")
        entries, sizes, _ = await pipe.execute()
    assert 5 <= entries <= 15, "the script trims the stream by its bytes"
    assert 1 <= sizes <= 4


async def test_logins_of_sentinels_and_servers_differ(sentinel_set: Callable[..., SentinelSet]) -> None:
    servers = sentinel_set(password=PASSWORD, sentinel_password=SENTINEL_PASSWORD)
    login = "sentinel_password=of%3Athe%25sentinels"
    url = f"{servers.url.removesuffix('0')}1?{login}"
    async with connect(url) as client:
        await client.set("a", "b")
    with connect_sync(url) as blocking, servers.master().client() as direct:
        assert blocking.get("a") == b"b"
        direct.select(1)
        assert direct.get("a") == "b"
    with connect_sync(url.partition("?")[0]) as refused, pytest.raises(RedisError, match="no Sentinel answers"):
        refused.ping()


async def test_a_silent_sentinel_delays_a_connection_only_once(sentinel_set: Callable[..., SentinelSet]) -> None:
    servers = sentinel_set()
    servers.sentinels[0].signal(signal.SIGSTOP)
    connection = RedisConnection(RedisSettings(url=servers.url, prefix=PREFIX, max_entries=100))
    loop = asyncio.get_running_loop()
    took = []
    for _ in range(3):
        began = loop.time()
        await connection.open()
        took.append(loop.time() - began)
        await connection.close()
    servers.sentinels[0].signal(signal.SIGCONT)
    assert took[0] > 1.0, "the first Sentinel is silent"
    assert min(took[1:]) < 1.0, "the Sentinel that answered is asked first"


async def test_a_client_follows_a_slot_that_moves_to_another_node(redis_cluster: Callable[..., Cluster]) -> None:
    cluster = redis_cluster()
    client, key = connect(cluster.url), f"{PREFIX}:a"
    await client.set(key, "1")
    old = cluster.owner()
    replica = next(each for each in cluster.nodes if each.client().role()[0] == "slave")
    replica.client().execute_command("CLUSTER", "FAILOVER")
    until(lambda: old.client().role()[0] == "slave" and cluster.owner() is replica)
    with pytest.raises(NotMasterError, match="another server is the master"):  # the old node still has the connection
        await client.set(key, "2")
    await client.set(key, "3")
    with replica.client() as direct:
        assert direct.get(key) == "3"
    await client.aclose()


async def test_a_client_leaves_a_server_that_became_a_replica(sentinel_set: Callable[..., SentinelSet]) -> None:
    servers = sentinel_set()
    client, blocking = connect(servers.url), connect_sync(servers.url)
    await client.set("a", "1")
    blocking.set("a", "1")
    old = servers.master()
    other = next(each for each in servers.servers if each is not old)
    old.client().execute_command("REPLICAOF", "127.0.0.1", str(other.port))
    for _ in range(2):  # at the first command, the connection is open; the second one opens a new connection
        with pytest.raises(NotMasterError):
            await client.set("a", "2")
        with pytest.raises(NotMasterError):
            blocking.set("a", "2")
    old.client().execute_command("REPLICAOF", "NO", "ONE")
    until(lambda: bool(blocking.set("a", "3")))
    assert await client.get("a") == b"3"
    await client.aclose()
    blocking.close()
