"""Slow readers: the broker disconnects a subscriber, and a consumer group receives the exact count of its losses.

The tests run real hubs with cameras, a service that answers, and the embedded Valkey.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest
import redis

from nvision_hub.broker.client import connect
from nvision_hub.broker.consumer_group import ConsumerGroup
from tests.support import clips
from tests.support.group_losses import group_losses
from tests.support.ledger import Ledger
from tests.support.patience import PATIENCE_S
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder

pytestmark = [pytest.mark.fault, pytest.mark.long]

SMALL: Final = clips.ClipSpec(codec="mjpeg", width=160, height=120, fps=50, seconds=2)
SUBSCRIBER: Final = """
import sys, redis
subscription = redis.Redis.from_url(sys.argv[1], client_name="slow").pubsub()
subscription.psubscribe("nvision:results:*")
for message in subscription.listen():
    print(message["type"], flush=True)
"""


def test_a_subscriber_that_does_not_read_is_disconnected(
    http_camera: Callable[..., HttpCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    # Results of 200 kB fill all buffers within seconds, including the socket buffers at both ends.
    camera, service = http_camera(spec=SMALL), recorder(keep_frames=False, answer="many_names")
    settings = {"url": "embedded", "embedded_port": 0, "stream_max_entries": 100}
    hub = start_hub([{"id": "a", "url": camera.url(), "fps": 10}], service, redis=settings)
    hub.wait_for_results("a", 250)
    url = hub.broker_url()
    worker, broker = hub.camera("a").pid, hub._members["broker"]["status"]["info"]["program"]
    assert worker is not None
    with redis.Redis.from_url(url) as client:
        before = resident_mb(worker), resident_mb(broker)
        held = client.info("memory")["used_memory"]
        subscriber = subprocess.Popen(
            [sys.executable, "-c", SUBSCRIBER, url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert subscriber.stdout is not None
            while subscriber.stdout.readline() != "pmessage\n":
                pass
            os.kill(subscriber.pid, signal.SIGSTOP)
            stopped = time.monotonic()
            most: list[float] = []
            behind = 0
            while slow := [each for each in client.client_list() if each["name"] == "slow"]:
                assert time.monotonic() - stopped < PATIENCE_S, slow
                behind = max(behind, int(slow[0]["omem"]))
                most.append(client.info("memory")["used_memory"] - held)
                time.sleep(0.1)
            cut_s = time.monotonic() - stopped
        finally:
            subscriber.kill()
            subscriber.communicate()
        published = hub.camera("a").total("results_published_total")
        hub.wait_until(lambda: hub.camera("a").total("results_published_total") > published + 50)
        grown = resident_mb(worker) - before[0], client.info("memory")["used_memory"] - held
    assert hub.camera("a").restarts == 0
    assert not Ledger.of(hub.status("a")["metrics"]).lost
    assert hub.stop() == 0
    measured(
        40,
        "slow subscriber",
        injected="SIGSTOP of a subscriber to 2 MB/s of results",
        target="disconnected at the limit; hub memory flat",
        measured=f"disconnected after {cut_s:.0f} s with {behind / 1e6:.0f} MB waiting; broker memory at most "
        f"{max(most) / 1e6:.0f} MB above the start, {grown[1] / 1e6:+.0f} MB afterwards; worker {grown[0]:+.1f} MB",
    )
    assert max(most) < 48e6
    assert grown[0] < 16


def resident_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 1e6)


async def test_a_stopped_consumer_gets_an_exact_count_of_its_losses(
    http_camera: Callable[..., HttpCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    camera, service = http_camera(spec=SMALL), recorder(keep_frames=False)
    names = ("a", "b", "c", "d")
    settings = {"url": "embedded", "embedded_port": 0, "stream_max_entries": 500}
    hub = start_hub([{"id": name, "url": camera.url(), "fps": 25} for name in names], service, redis=settings)

    def published() -> int:
        return sum(Ledger.of(hub.status(name).get("metrics", {})).published for name in names)

    hub.wait_until(lambda: published() > 0)
    client = connect(hub.broker_url())
    group = ConsumerGroup(client, stream="nvision:results", name="slow", consumer="one")
    await group.create(from_start=True)
    assert (await client.xinfo_stream("nvision:results"))["length"] < 500, (
        "nothing was trimmed before the group existed"
    )
    hub.wait_until(lambda: published() > 120)
    given = await group.read(100)
    assert given.trimmed.undelivered == 0
    seen = [entry for entry, _ in given.entries]
    await group.acknowledge(*seen[:40])
    reached = published()
    hub.wait_until(lambda: published() > reached + 1200, PATIENCE_S)  # the consumer is paused; 60 entries are pending
    losses = await group_losses(client, "nvision:results", "slow")
    assert losses.undelivered is not None
    assert losses.undelivered > 500
    assert losses.unacknowledged == 60
    resumed = await group.resume()
    assert (len(resumed.entries), resumed.trimmed.unacknowledged) == (0, 60)
    undelivered = 0
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:  # the consumer reads fewer results than arrive, which causes many gaps
        batch = await group.read(3)
        assert batch.trimmed.undelivered is not None
        undelivered += batch.trimmed.undelivered
        seen += [entry for entry, _ in batch.entries]
        time.sleep(0.1)  # noqa: ASYNC251 - a slow consumer
    service.set_behavior(answer="none")
    # No results arrive after two more reports from each camera.
    for _ in range(2):
        at = {name: hub.status(name)["at"] for name in names}
        hub.wait_until(lambda at=at: all(hub.status(name)["at"] > at[name] for name in names))  # type: ignore[misc]
    rest = await group.read(100_000)
    assert rest.trimmed.undelivered is not None
    undelivered += rest.trimmed.undelivered
    seen += [entry for entry, _ in rest.entries]
    added: Any = (await client.xinfo_stream("nvision:results"))["entries-added"]
    await client.aclose()
    assert len(set(seen)) == len(seen)
    assert added == published()
    assert len(seen) + undelivered == added, "delivered and lost entries add up to all entries"
    assert hub.stop() == 0
    measured(
        42,
        "stream trimmed with pending entries",
        injected="consumer group stopped with 60 entries pending, then slower than the stream (500 entries long)",
        target="exact count of the lost results",
        measured=f"of {added} entries, {len(seen)} were delivered and {undelivered} counted as trimmed before delivery"
        "; the 60 pending entries counted as trimmed while pending",
    )
