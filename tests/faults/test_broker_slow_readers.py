"""Readers that do not read: a subscriber is cut, a consumer group is told to the entry what it has lost.

Real hubs with cameras, a service that answers, and the embedded Valkey.
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

from nvision_hub.broker.connection import connect
from nvision_hub.broker.groups import Group, trimmed
from tests.support import clips
from tests.support.ledger import Ledger
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder

pytestmark = [pytest.mark.fault, pytest.mark.long]

SMALL: Final = clips.ClipSpec(codec="mjpeg", width=160, height=120, fps=50, seconds=2)
SOON_S: Final = 60.0
SUBSCRIBER: Final = """
import sys, redis
heard = redis.Redis.from_url(sys.argv[1], client_name="slow").pubsub()
heard.psubscribe("nvision:results:*")
for message in heard.listen():
    print(message["type"], flush=True)
"""


def test_a_subscriber_that_does_not_read_is_cut(
    http_camera: Callable[..., HttpCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    # 200 kB a result, so that seconds are enough to fill what lies between: the sockets of both ends, too.
    camera, service = http_camera(spec=SMALL), recorder(keep_pictures=False, answer="many_names")
    settings = {"url": "embedded", "embedded_port": 0, "stream_max_entries": 100}
    hub = start_hub([{"id": "a", "url": camera.url(), "fps": 10}], service, redis=settings)
    hub.wait_for_results("a", 250)
    url = hub.addresses["redis"]
    worker, broker = hub.camera("a").pid, hub._members["broker"]["status"]["row"]["program"]
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
                assert time.monotonic() - stopped < SOON_S, slow
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
        target="cut by the limit; hub memory flat",
        measured=f"cut after {cut_s:.0f} s with {behind / 1e6:.0f} MB waiting for it; broker at most "
        f"{max(most) / 1e6:.0f} MB above before, {grown[1] / 1e6:+.0f} MB afterwards; worker {grown[0]:+.1f} MB",
    )
    assert max(most) < 48e6
    assert grown[0] < 16


def resident_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 1e6)


async def test_a_consumer_that_stops_is_told_what_it_has_lost(
    http_camera: Callable[..., HttpCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    camera, service = http_camera(spec=SMALL), recorder(keep_pictures=False)
    names = ("a", "b", "c", "d")
    settings = {"url": "embedded", "embedded_port": 0, "stream_max_entries": 500}
    hub = start_hub([{"id": name, "url": camera.url(), "fps": 25} for name in names], service, redis=settings)

    def published() -> int:
        return sum(Ledger.of(hub.status(name).get("metrics", {})).published for name in names)

    hub.wait_until(lambda: published() > 0)
    client = connect(hub.addresses["redis"])
    group = Group(client, stream="nvision:results", name="slow", consumer="one")
    await group.create(from_start=True)
    assert (await client.xinfo_stream("nvision:results"))["length"] < 500, (
        "nothing was trimmed before the group was made"
    )
    hub.wait_until(lambda: published() > 120)
    given = await group.read(100)
    assert given.trimmed.undelivered == 0
    seen = [entry for entry, _ in given.entries]
    await group.acknowledge(*seen[:40])
    reached = published()
    hub.wait_until(lambda: published() > reached + 1200, SOON_S)  # the consumer is stopped, 60 are pending
    told = await trimmed(client, "nvision:results", "slow")
    assert told.undelivered is not None
    assert told.undelivered > 500
    assert told.unacknowledged == 60
    resumed = await group.resume()
    assert (len(resumed.entries), resumed.trimmed.unacknowledged) == (0, 60)
    undelivered = 0
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:  # slower than results come, so that there is gap after gap
        batch = await group.read(3)
        assert batch.trimmed.undelivered is not None
        undelivered += batch.trimmed.undelivered
        seen += [entry for entry, _ in batch.entries]
        time.sleep(0.1)  # noqa: ASYNC251 - a consumer that takes its time
    service.order(answer="none")
    # Two more reports of each camera: nothing comes any more.
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
    assert len(seen) + undelivered == added, "what it was given and what it lost are all there ever was"
    assert hub.stop() == 0
    measured(
        42,
        "stream full with pending entries",
        injected="consumer group stopped with 60 entries pending, then slower than the stream (500 entries long)",
        target="exact count of what was lost",
        measured=f"of {added} entries {len(seen)} were given and {undelivered} counted as trimmed before, and of the "
        "former 60 as trimmed while pending: exact",
    )
