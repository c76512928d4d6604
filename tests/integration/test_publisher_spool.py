"""The publisher with a spool: Redis servers that fail, processes that end during an outage, and disks that fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import redis

from nvision_hub.broker import publisher
from nvision_hub.broker.client import RedisSettings
from nvision_hub.broker.publisher import Publisher
from nvision_hub.broker.spool import SpoolSettings
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision.result_events import new_id
from tests.support.ledger import Ledger
from tests.support.metrics import snapshot_json
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.redis_server import DebianRedis, Server


class Process:
    """The publisher and meter of one worker process."""

    def __init__(self, url: str, spool: SpoolSettings | None) -> None:
        self.meter = Meter()
        self.publisher = Publisher(RedisSettings(url=url, prefix="site", max_entries=100_000), self.meter, spool)
        self.task = asyncio.create_task(self.publisher.run())

    def publish(self, *numbers: int, size: int = 0) -> None:
        for number in numbers:
            self.meter.count(catalogue.RESULTS_RECEIVED_TOTAL)
            hub = {"id": new_id(), "sequence": number}
            self.publisher.publish("lobby", {"hub": hub, "pad": "x" * size})
            assert self.ledger.balanced

    @property
    def ledger(self) -> Ledger:
        self.meter.set_gauge(catalogue.RESULTS_WAITING, self.publisher.results_waiting)
        return Ledger.of(snapshot_json(self.meter.snapshot()))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                assert self.ledger.balanced, self.ledger
                await asyncio.sleep(0.001)

    async def is_away(self) -> None:
        await self.until(lambda: self.publisher.error is not None)

    async def published(self) -> None:
        await self.until(lambda: self.meter.gauge_value(catalogue.SPOOL_EVENTS) == 0)

    async def die(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@pytest.fixture
def spool(tmp_path: Path) -> SpoolSettings:
    return SpoolSettings(path=tmp_path / "spool" / "lobby.sqlite3")


@pytest.fixture
async def start() -> AsyncIterator[Callable[[str, SpoolSettings | None], Process]]:
    started: list[Process] = []

    def begin(url: str, spool: SpoolSettings | None) -> Process:
        started.append(Process(url, spool))
        return started[-1]

    yield begin
    for each in started:
        await each.die()


def streamed(url: str) -> list[int]:
    """Return the sequence numbers in the stream, without repeated ids."""
    with redis.Redis.from_url(url) as client:
        found: Any = client.xrange("site:results")
    hubs = [json.loads(fields[b"event"])["hub"] for _, fields in found]
    return list({hub["id"]: hub["sequence"] for hub in hubs}.values())


async def test_results_go_to_disk_and_then_to_redis_in_order(
    redis_server: Server, spool: SpoolSettings, start: Callable[..., Process]
) -> None:
    worker = start(redis_server.url, spool)
    worker.publish(0)
    await worker.published()
    assert not spool.path.parent.exists(), "a healthy worker has no file"
    await asyncio.to_thread(redis_server.kill)
    worker.publish(*range(1, 500))
    await worker.is_away()
    await worker.until(lambda: not worker.publisher._results)
    assert spool.path.exists()
    assert worker.ledger.waiting == 499
    for number in range(500, 2500):
        worker.publish(number)
        await asyncio.sleep(0)
    await asyncio.to_thread(redis_server.start)
    for number in range(2500, 3500):
        worker.publish(number)
        await asyncio.sleep(0.0005)
    await worker.published()
    assert streamed(redis_server.url) == list(range(3500))
    assert (worker.ledger.published, worker.ledger.lost.total()) == (3500, 0)
    assert list(spool.path.parent.iterdir()) == []


async def test_a_killed_worker_leaves_its_spool_to_the_next(
    redis_server: Server, spool: SpoolSettings, start: Callable[..., Process]
) -> None:
    await asyncio.to_thread(redis_server.kill)
    first = start(redis_server.url, spool)
    first.publish(*range(100))
    await first.is_away()
    await first.until(lambda: not first.publisher._results)
    await first.die()
    second = start(redis_server.url, spool)
    second.publish(*range(100, 150))
    await second.until(lambda: second.ledger.recovered == 100)
    await asyncio.to_thread(redis_server.start)
    await second.published()
    assert streamed(redis_server.url) == list(range(150))
    assert (second.ledger.received, second.ledger.recovered, second.ledger.published) == (50, 100, 150)


@pytest.mark.parametrize("gone", ["killed", "frozen"])
async def test_a_stop_while_redis_is_away_loses_nothing(
    debian_redis: Callable[..., DebianRedis], spool: SpoolSettings, start: Callable[..., Process], gone: str
) -> None:
    server = debian_redis()
    first = start(server.url, spool)
    first.publish(0)
    await first.published()
    if gone == "killed":
        await asyncio.to_thread(server.kill)
    else:
        server.freeze()
    first.publish(*range(1, 200))
    await first.publisher.drain(0.5)
    assert first.task.done()
    assert (first.ledger.waiting, first.ledger.lost.total()) == (199, 0)
    if gone == "killed":
        await asyncio.to_thread(server.start)
    else:
        server.thaw()
    second = start(server.url, spool)
    await second.published()
    assert streamed(server.url) == list(range(200))


async def test_an_idle_worker_publishes_a_leftover_spool_immediately(
    redis_server: Server, spool: SpoolSettings, start: Callable[..., Process]
) -> None:
    await asyncio.to_thread(redis_server.kill)
    first = start(redis_server.url, spool)
    first.publish(1, 2, 3)
    await first.publisher.drain(5.0)
    await asyncio.to_thread(redis_server.start)
    second = start(redis_server.url, spool)
    await second.until(lambda: second.ledger.published == 3)
    await second.publisher.drain(PATIENCE_S)
    assert second.ledger.settled
    assert not spool.path.exists()


async def test_the_oldest_results_above_the_bounds_are_lost_and_counted(
    debian_redis: Callable[..., DebianRedis], tmp_path: Path, start: Callable[..., Process]
) -> None:
    server = debian_redis()
    server.kill()
    worker = start(server.url, SpoolSettings(path=tmp_path / "lobby.sqlite3", max_bytes=50_000))
    for number in range(100):
        worker.publish(number, size=1000)
        await asyncio.sleep(0.01)
    await worker.until(lambda: not worker.publisher._results)
    lost = int(worker.meter.value(catalogue.RESULTS_LOST_TOTAL, reason="spool_full"))
    assert 50 < lost < 70
    await asyncio.to_thread(server.start)
    await worker.published()
    assert streamed(server.url) == list(range(lost, 100))


async def test_with_a_failed_disk_the_newest_results_stay_in_memory(
    debian_redis: Callable[..., DebianRedis],
    tmp_path: Path,
    start: Callable[..., Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publisher, "MAX_BUFFERED_EVENTS", 100)
    server = debian_redis()
    server.kill()
    (tmp_path / "spool").write_text("no directory")
    worker = start(server.url, SpoolSettings(path=tmp_path / "spool" / "lobby.sqlite3"))
    worker.publish(0)
    await worker.until(lambda: "cannot be used (" in (worker.publisher.error or "").partition(";")[2])
    worker.publish(*range(1, 150))
    assert worker.meter.value(catalogue.RESULTS_LOST_TOTAL, reason="disk_full") == 50
    (tmp_path / "spool").unlink()
    await worker.until(lambda: not worker.publisher._results)
    worker.publish(*range(150, 200))
    await asyncio.to_thread(server.start)
    await worker.published()
    assert streamed(server.url) == list(range(50, 200))


async def test_a_broken_spool_is_set_aside_and_counted(
    debian_redis: Callable[..., DebianRedis], spool: SpoolSettings, start: Callable[..., Process]
) -> None:
    server = debian_redis()
    server.kill()
    spool.path.parent.mkdir()
    spool.path.write_bytes(b"not a spool " * 500)
    worker = start(server.url, spool)
    worker.publish(*range(10))
    await worker.until(lambda: worker.publisher._spool.count == 10)
    assert worker.meter.value(catalogue.SPOOLS_SET_ASIDE_TOTAL) == 1
    await asyncio.to_thread(server.start)
    await worker.published()
    assert streamed(server.url) == list(range(10))


async def test_a_restarted_redis_gets_the_last_seconds_again(
    debian_redis: Callable[..., DebianRedis], tmp_path: Path, start: Callable[..., Process]
) -> None:
    server = debian_redis()
    worker = start(server.url, None)
    worker.publish(*range(50))
    await worker.published()
    for _ in range(2):
        await asyncio.to_thread(server.kill)
        for file in (tmp_path / "appendonlydir").iterdir():
            file.unlink()  # as if Redis had synced nothing to disk
        await asyncio.to_thread(server.start)
        await worker.until(lambda: worker.publisher.error is None)
        worker.publish(50)
        await worker.published()
        assert sorted(set(streamed(server.url))) == list(range(51))
    assert worker.meter.value(catalogue.RESULTS_RESENT_TOTAL) >= 100
    assert worker.ledger.published == 52, "each result must be counted once"


async def test_a_reconnect_to_the_same_redis_resends_nothing(
    debian_redis: Callable[..., DebianRedis], start: Callable[..., Process]
) -> None:
    server = debian_redis()
    worker = start(server.url, None)
    worker.publish(*range(10))
    await worker.published()
    with redis.Redis.from_url(server.url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
        worker.publish(10)
        await worker.published()
        assert client.xlen("site:results") == 11
    assert worker.meter.value(catalogue.RESULTS_RESENT_TOTAL) == 0


async def test_an_idle_worker_detects_an_outage_and_its_end(
    debian_redis: Callable[..., DebianRedis], start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PING_INTERVAL_S", 0.2)
    monkeypatch.setattr(publisher, "SEND_TIMEOUT_S", 0.5)
    server = debian_redis()
    worker = start(server.url, None)
    worker.publish(0)
    await worker.published()
    server.freeze()
    await worker.is_away()
    server.thaw()
    await worker.until(lambda: worker.publisher.error is None)
    await asyncio.to_thread(server.kill)
    await worker.is_away()
    await asyncio.to_thread(server.start)
    await worker.until(lambda: worker.publisher.error is None)
    assert worker.meter.value(catalogue.RESULTS_RESENT_TOTAL) == 1, "an idle worker must detect the outage"


async def test_a_redis_without_run_id_counts_as_another_at_each_connect(
    debian_redis: Callable[..., DebianRedis], start: Callable[..., Process]
) -> None:
    server = debian_redis()
    with redis.Redis.from_url(server.url) as client:
        client.acl_setuser("hub", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", "-info"])
        worker = start(server.url.replace("redis://", "redis://hub:@"), None)
        worker.publish(0)
        await worker.published()
        client.client_kill_filter(_type="normal", skipme=True)
        worker.publish(1)
        await worker.published()
        assert client.xlen("site:results") == 3


@pytest.mark.long
async def test_a_frozen_redis_causes_no_loss_while_the_spool_has_room(
    debian_redis: Callable[..., DebianRedis], spool: SpoolSettings, start: Callable[..., Process]
) -> None:
    server = debian_redis()
    worker = start(server.url, spool)
    worker.publish(0)
    await worker.published()
    server.freeze()
    for number in range(1, 4001):  # about 4 s, less than a command's time limit; more than fits in memory
        worker.publish(number)
        await asyncio.sleep(0.001)
    server.thaw()
    await worker.published()
    assert streamed(server.url) == list(range(4001))
    assert worker.ledger.lost.total() == 0
