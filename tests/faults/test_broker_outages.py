"""Cases 37, 38 and 41: the broker is killed, loses its data or becomes unreachable, and every result still arrives.

The tests run real hubs with cameras, a service, and the embedded Valkey or a Redis behind a veth pair.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis
from redis.exceptions import RedisError

from nvision_hub.broker.client import RedisConnection, RedisSettings
from nvision_hub.broker.send_buffer import OutgoingEvent
from tests.support import clips
from tests.support.hub_ledger import ledger, stop_results
from tests.support.patience import PATIENCE_S, is_on_time
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cable import Cable
    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis

pytestmark = [pytest.mark.fault, pytest.mark.long]

SMALL: Final = clips.ClipSpec(codec="mjpeg", width=160, height=120, fps=50, seconds=2)
NAMES: Final = ("a", "b", "c", "d", "e", "f", "g", "h")
KILLS: Final = 3


def entries(url: str) -> list[dict[str, Any]]:
    """Return every event in the stream, including duplicates."""
    with redis.Redis.from_url(url) as client:
        found: Any = client.xrange("nvision:results")
    return [json.loads(fields[b"event"]) for _, fields in found]


def streams_again_s(url: str, since: float) -> float:
    """Wait until a result is added to the stream after `since` (epoch). Return the seconds since `since`."""
    while True:
        with contextlib.suppress(RedisError), redis.Redis.from_url(url) as client:
            newest: Any = client.xrevrange("nvision:results", count=1)
            if newest and int(newest[0][0].partition(b"-")[0]) / 1000 > since:
                return time.time() - since
        assert time.time() - since < PATIENCE_S
        time.sleep(0.02)


def valkey(hub: Hub) -> int:
    """Return the pid of the embedded Valkey."""
    pid: int = hub._members["broker"]["status"]["info"]["program"]
    return pid


def test_results_survive_kills_of_the_broker_under_load(
    http_camera: Callable[..., HttpCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    camera, service = http_camera(spec=SMALL), recorder(keep_frames=False)
    hub = start_hub([{"id": name, "url": camera.url(), "fps": 25} for name in NAMES], service)
    for name in NAMES:
        hub.wait_for_results(name, 50)
    url = hub.broker_url()
    took: list[float] = []
    began, before = time.monotonic(), ledger(hub, NAMES).received
    for _ in range(KILLS):
        restarts = hub.restarts()["broker"]
        killed = time.time()
        os.kill(valkey(hub), signal.SIGKILL)
        took.append(streams_again_s(url, killed))
        hub.wait_until(lambda restarts=restarts: hub.restarts()["broker"] > restarts)  # type: ignore[misc]
        reached = ledger(hub, NAMES).published
        hub.wait_until(lambda reached=reached: ledger(hub, NAMES).published > reached + 800, PATIENCE_S)  # type: ignore[misc]
    rate = (ledger(hub, NAMES).received - before) / (time.monotonic() - began)
    account = stop_results(hub, service, NAMES)
    events = entries(url)
    unique = {event["hub"]["id"]: event for event in events}
    assert len(unique) == account.received, "every received result is in the stream"
    assert all(event == unique[event["hub"]["id"]] for event in events), "duplicates must be identical events"
    assert set(unique) <= {each.frame_id for each in service.received()}
    assert not account.lost
    assert all(hub.camera(name).restarts == 0 for name in NAMES)
    assert hub.stop() == 0
    assert not [file for file in (hub.folder / "state" / "spool").rglob("*") if file.is_file()]
    assert "Traceback" not in hub.log()
    measured(
        37,
        "broker killed",
        injected=f"kill -9 of Valkey, {KILLS} times, at {rate:.0f} results/s of {len(NAMES)} cameras",
        target="none lost; duplicates share the id; results flow within 5 s",
        measured=f"{len(unique)} of {account.received} results in the stream, and {len(events) - len(unique)} "
        f"duplicates with their ids; results flow again after {min(took):.1f} to {max(took):.1f} s",
    )
    assert is_on_time(max(took), 5.0)


def test_results_of_the_last_seconds_survive_a_broker_that_returns_empty(
    http_camera: Callable[..., HttpCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    camera, service = http_camera(spec=SMALL), recorder(keep_frames=False)
    names = NAMES[:2]
    hub = start_hub([{"id": name, "url": camera.url(), "fps": 10} for name in names], service)
    for name in names:
        hub.wait_for_results(name, 40)
    url = hub.broker_url()
    os.kill(valkey(hub), signal.SIGSTOP)  # from now on, Valkey confirms no more results
    frozen = time.time()
    shutil.rmtree(hub.folder / "state" / "broker" / "appendonlydir")
    os.kill(valkey(hub), signal.SIGKILL)
    took_s = streams_again_s(url, frozen)
    with redis.Redis.from_url(url) as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.psubscribe("nvision:results:*")
        while (message := subscription.get_message(timeout=PATIENCE_S)) is None:
            pass
        assert json.loads(message["data"])["hub"]["camera"] in names
        subscriber_s = time.time() - frozen
    account = stop_results(hub, service, names)
    kept = {event["hub"]["id"] for event in entries(url)}
    made = {each.frame_id: each.created for each in service.received()}
    last_seconds = {name for name, created in made.items() if frozen - 2.0 < created < frozen - 0.2}
    assert len(last_seconds) > 20
    assert last_seconds <= kept, "results confirmed within the last two seconds are sent again"
    assert not account.lost
    assert hub.stop() == 0
    measured(
        38,
        "broker returns empty",
        injected="data deleted and Valkey killed (kill -9) at 20 results/s",
        target="stream and channels work again within 5 s",
        measured=f"stream after {took_s:.1f} s, a new subscriber gets its first result after {subscriber_s:.1f} s; all "
        f"{len(last_seconds)} results of the last two seconds before the fault are in the new stream",
    )
    assert is_on_time(took_s, 5.0)


@pytest.fixture
def far_redis(cable: Cable, debian_redis: Callable[..., DebianRedis]) -> DebianRedis:
    return debian_redis(address=cable.address, namespace=cable.namespace)


def test_a_half_open_redis_is_detected_and_loses_no_result(
    cable: Cable,
    far_redis: DebianRedis,
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    start_hub: Callable[..., Hub],
) -> None:
    camera, service = http_camera(spec=SMALL), recorder(keep_frames=False)
    busy, idle = ("busy",), ("idle",)
    hub = start_hub(
        [
            {"id": "busy", "url": camera.url(), "fps": 20},
            {"id": "idle", "url": camera.url(), "fps": 0.01},  # sends one frame; then it has nothing to publish
        ],
        service,
        redis={"url": far_redis.url},
    )
    hub.wait_for_results("busy", 40)
    hub.wait_for_results("idle", 1)
    cable.pull()
    pulled = time.monotonic()
    noticed: dict[str, float] = {}
    for name in (*busy, *idle):
        hub.wait_until(lambda name=name: "Redis cannot be used" in (hub.camera(name).error or ""), PATIENCE_S)  # type: ignore[misc]
        noticed[name] = time.monotonic() - pulled
    waits = ledger(hub, busy).waiting
    hub.wait_until(lambda: ledger(hub, busy).waiting > waits + 100, PATIENCE_S)
    cable.plug_in()
    plugged = time.monotonic()
    hub.wait_until(lambda: hub.camera("busy").error is None and ledger(hub, busy).waiting < 20, PATIENCE_S)
    back_s = time.monotonic() - plugged
    account = stop_results(hub, service, busy)
    unique = {event["hub"]["id"] for event in entries(far_redis.url) if event["hub"]["camera"] == "busy"}
    assert len(unique) == account.received
    assert not account.lost
    measured(
        41,
        "half-open Redis",
        injected="link down at Redis's end of a veth pair under 20 results/s: no RST, no answer",
        target="detected within 50 s; nothing lost",
        measured=f"detected after {noticed['busy']:.1f} s, or {noticed['idle']:.1f} s by a camera without results; "
        f"all {account.received} results in the stream {back_s:.1f} s after the link is up again",
    )
    assert is_on_time(max(noticed.values()), 50.0)


def test_a_stop_during_a_half_open_redis_keeps_results_on_disk(
    cable: Cable,
    far_redis: DebianRedis,
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    start_hub: Callable[..., Hub],
) -> None:
    camera, service = http_camera(spec=SMALL), recorder(keep_frames=False)
    cameras = [{"id": "a", "url": camera.url(), "fps": 20}]
    first = start_hub(cameras, service, redis={"url": far_redis.url})
    first.wait_for_results("a", 40)
    cable.pull()
    pulled = time.monotonic()
    first.wait_until(lambda: ledger(first, ("a",)).waiting > 20)  # by now, a command is waiting for a reply
    stopping = time.monotonic()
    assert first.stop() == 0
    stopped_s = time.monotonic() - stopping
    account = ledger(first, ("a",))
    assert not account.lost
    assert account.waiting > 20
    cable.plug_in()
    second = start_hub(cameras, service, redis={"url": far_redis.url}, state_dir=str(first.folder / "state"))
    second.wait_until(lambda: ledger(second, ("a",)).recovered > 0)
    after = stop_results(second, service, ("a",))
    assert after.recovered == account.waiting
    unique = {event["hub"]["id"] for event in entries(far_redis.url)}
    assert len(unique) == account.received + after.received
    assert second.stop() == 0
    measured(
        41,
        "half-open Redis: stop of the hub",
        injected=f"SIGTERM {stopping - pulled:.1f} s after the link went down",
        target="exit within 10 s, nothing lost",
        measured=f"exit after {stopped_s:.1f} s; {account.waiting} results kept on disk and published by the next hub",
    )
    assert is_on_time(stopped_s, 10.0)


async def test_commands_to_a_half_open_redis_fail_in_time(cable: Cable, far_redis: DebianRedis) -> None:
    connection = RedisConnection(RedisSettings(url=far_redis.url, prefix="site", max_entries=100))
    event = OutgoingEvent(id="1", camera="lobby", payload=b"{}", received_at=0.0)
    await connection.open()
    await connection.send([event])
    cable.pull()
    took: dict[str, float] = {}
    for what, command in (("a transaction", connection.send([event])), ("a new connection", connection.ping())):
        began = time.monotonic()
        with pytest.raises((RedisError, OSError)):
            await command
        took[what] = time.monotonic() - began
        began = time.monotonic()
        await connection.close()
        took[f"closing after {what}"] = time.monotonic() - began
    await connection.close()
    # The publisher's own time limit is higher and does not apply.
    assert is_on_time(max(took.values()), 10.0)
    measured(
        41,
        "half-open Redis: commands",
        injected="link down at Redis's end of a veth pair",
        target="commands fail within 10 s",
        measured=", ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items()),
    )
