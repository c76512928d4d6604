"""Clients of the hub on real Sentinel sets and Clusters: they find the master, and follow it to another server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from typing import TYPE_CHECKING, Any, Final

import pytest
from redis.exceptions import RedisError

from nvision_hub.broker import publisher
from nvision_hub.broker.client import RedisConnection, RedisSettings, connect, connect_sync, follow_channel
from nvision_hub.broker.discovery import NotMasterError
from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from tests.support.dispatching import event
from tests.support.patience import PATIENCE_S
from tests.support.redis_topologies import HOST, Process, freeze, until
from workers.gateway.live.pubsub import PubSubClient
from workers.mqtt.event_forwarder import RESULTS, EventForwarder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from tests.support.redis_topologies import Cluster, SentinelSet

pytestmark = pytest.mark.long

PREFIX: Final = "{nvision}"
STREAM: Final = f"{PREFIX}:results"
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
    """Clients of one Redis, as the hub's processes use them. The publisher has a new result every few milliseconds."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.meter = Meter()
        settings = RedisSettings(url=url, prefix=PREFIX, max_entries=100_000)
        self.publisher = publisher.Publisher(settings, self.meter)
        # Forwarder of the MQTT bridge, which reads through a consumer group.
        self.forwarder = EventForwarder(settings, Meter(), RESULTS)
        self.pubsub = PubSubClient(settings, Meter())  # of the gateway
        self.published: list[str] = []
        self.forwarded: list[bytes] = []
        self.viewed: list[bytes] = []
        self.followed: list[bytes] = []  # as the relay follows its channel

    async def publish(self) -> None:
        while True:
            result = event(len(self.published))
            self.published.append(result["hub"]["id"])
            self.publisher.publish("lobby", result)
            await asyncio.sleep(0.005)

    async def forward(self) -> None:
        async def publish(_camera: str, payload: bytes) -> None:
            self.forwarded.append(payload)

        await self.forwarder.join()
        await self.forwarder.run(publish, asyncio.Lock())

    async def follow(self) -> None:
        async for message in follow_channel(self.url, f"{STREAM}:lobby"):
            self.followed.append(message)

    async def view(self) -> None:
        self.pubsub.subscribe(lambda _channel, message: self.viewed.append(message), [f"{STREAM}:lobby"])
        await self.pubsub.run()

    async def receive(self) -> None:
        """Wait until every client has received 50 more results."""
        lists = (self.forwarded, self.viewed, self.followed)
        before = [len(each) for each in lists]
        await wait_until(lambda: all(len(each) > old + 50 for each, old in zip(lists, before, strict=True)))

    async def receive_all(self) -> None:
        """Wait until all results so far are in the stream and forwarded. Fails if the stream lacks one."""
        last = len(self.published)
        await wait_until(lambda: len(self.published) > last + 100 and self.publisher.results_waiting == 0)
        expected = set(self.published[:last])
        assert expected <= ids(await asyncio.to_thread(self._in_stream)), "every result is in the stream"
        await wait_until(lambda: expected <= ids(self.forwarded))
        assert self.meter.value(catalogue.RESULTS_LOST_TOTAL, reason="redis_away") == 0

    def _in_stream(self) -> list[bytes]:
        with connect_sync(self.url) as client:
            found: Any = client.xrange(STREAM)
        return [fields[b"event"] for _, fields in found]


@contextlib.asynccontextmanager
async def running(url: str) -> AsyncIterator[Clients]:
    clients = Clients(url)
    tasks = [
        asyncio.create_task(each)
        for each in (clients.publisher.run(), clients.publish(), clients.forward(), clients.view(), clients.follow())
    ]
    yield clients
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await clients.forwarder.close()


@pytest.fixture
async def clients(topology: SentinelSet | Cluster) -> AsyncIterator[Clients]:
    async with running(topology.url) as clients:
        yield clients


def ids(events: Iterable[bytes]) -> set[str]:
    return {json.loads(event)["hub"]["id"] for event in events}


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("cause", [Process.kill, pytest.param(freeze, marks=pytest.mark.long)])
async def test_all_clients_follow_the_master(
    topology: SentinelSet | Cluster, clients: Clients, cause: Callable[[Process], None]
) -> None:
    await clients.receive()
    await asyncio.to_thread(topology.fail_over, cause)
    await clients.receive()
    await clients.receive_all()
    assert clients.meter.value(catalogue.RESULTS_RESENT_TOTAL) > 0, "the new master may lack the newest results"


async def test_results_that_no_replica_has_are_published_again(
    sentinel_set: Callable[..., SentinelSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine, more than the usual 3 s may pass between the loss of the replicas and that of the master.
    monkeypatch.setattr(publisher, "RECENT_S", PATIENCE_S)
    monkeypatch.setattr(publisher, "MAX_RECENT_EVENTS", 100_000)
    servers = sentinel_set(password=PASSWORD, accepts_alone=True)
    master = servers.master()
    replicas = [each for each in servers.servers if each is not master]
    async with running(servers.url) as clients:
        await clients.receive()
        for replica in replicas:  # none of them can follow the master any longer
            replica.client().config_set("masterauth", "another")
            replica.client().execute_command("CLIENT", "KILL", "TYPE", "master")
        await clients.receive()

        def fail(old: Process) -> None:
            lacking = [old.client().xlen(STREAM) - each.client().xlen(STREAM) for each in replicas]
            assert min(lacking) > 50, "the replicas lack results that the master has confirmed"
            old.kill()
            for replica in replicas:
                replica.client().config_set("masterauth", PASSWORD)

        await asyncio.to_thread(servers.fail_over, fail)
        await clients.receive()
        await clients.receive_all()
        assert clients.meter.value(catalogue.RESULTS_RESENT_TOTAL) > 50


async def test_scripts_and_transactions_of_the_hub_work(topology: SentinelSet | Cluster) -> None:
    settings = RedisSettings(url=topology.url, prefix=PREFIX, max_entries=100, max_bytes=10_000)
    connection = RedisConnection(settings)
    await connection.open()
    events = [OutgoingEvent(id=str(at), camera="lobby", payload=b"x" * 900, received_at=0.0) for at in range(5)]
    for _ in range(10):
        await connection.send(events)
    await connection.close()
    async with connect(topology.url) as client, client.pipeline(transaction=True) as pipe:
        pipe.xlen(STREAM)
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


async def test_no_result_is_lost_while_the_slot_migrates(redis_cluster: Callable[..., Cluster]) -> None:
    """While a slot migrates, its old node redirects single commands (ASK) and rejects transactions (TRYAGAIN)."""
    cluster = redis_cluster()
    old = cluster.owner()
    new = next(each for each in cluster.nodes if each is not old and each.client().role()[0] == "master")
    with old.client() as source, new.client() as target:
        slot: Any = source.execute_command("CLUSTER", "KEYSLOT", cluster.tag)
        nodes = {each: each.execute_command("CLUSTER", "MYID") for each in (source, target)}
        async with running(cluster.url) as clients:
            await clients.receive()
            target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", nodes[source])
            source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", nodes[target])
            keys: Any = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
            source.execute_command("MIGRATE", HOST, new.port, "", 0, 5000, "KEYS", *keys)
            waiting = len(clients.published)
            await wait_until(lambda: len(clients.published) > waiting + 100)
            assert clients.publisher.results_waiting > 0, "the old node accepts no result"
            for each in (target, source):
                each.execute_command("CLUSTER", "SETSLOT", slot, "NODE", nodes[target])
            until(lambda: cluster.owner() is new)
            await clients.receive()
            await clients.receive_all()


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
