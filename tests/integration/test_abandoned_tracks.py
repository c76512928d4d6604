"""Tracks of a killed worker end exactly once after their camera is removed or no longer tracked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from nvision_hub.broker.client import RedisSettings, connect, connect_sync, open_tracks_key, track_commands
from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.broker.spool import SpoolSettings
from nvision_hub.cluster.camera_lease import lease_key
from nvision_hub.cluster.sealed_messages import FleetSeal
from nvision_hub.nvision.result_events import encode
from nvision_hub.runtime.messages import ProcessChanged, ProcessInfo
from tests.support import asyncapi
from tests.support.patience import PATIENCE_S
from tests.support.track_events import open_event
from workers.gateway.settings import FleetSettings, GatewaySettings
from workers.gateway.state.abandoned_tracks import AbandonedTracks
from workers.gateway.state.fleet import FleetState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis
    from tests.support.redis_topologies import Cluster, SentinelSet

WHOLE: Final = [[0, 0], [1, 0], [1, 1], [0, 1]]
ABSENT: Final = {"id": "absent", "url": "rtsp://127.0.0.1:9/stream1", "fps": 1}
PREFIX: Final = "{nvision}"
TRACKS: Final = 20


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the event did not occur"
        time.sleep(0.05)


def events(client: redis.Redis, prefix: str = "nvision") -> list[dict[str, Any]]:
    entries: Any = client.xrange(f"{prefix}:tracks")
    found = [json.loads(fields[b"event"]) for _, fields in entries]
    for each in found:
        asyncapi.check("trackEvent", each)
    return found


@pytest.mark.long
@pytest.mark.parametrize("fate", ["removed", "tracking_off", "removed_while_stopped"])
def test_a_track_of_a_killed_worker_ends_once(
    start_hub: Callable[..., Hub],
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    debian_redis: Callable[..., DebianRedis],
    fate: str,
) -> None:
    zones = {"room": {"points": WHOLE}}
    camera = {"id": "lobby", "url": http_camera().url(), "fps": 10, "zones": zones, "labels": {"floor": "1"}}
    broker = {} if fate == "tracking_off" else {"redis": {"url": debian_redis().url}}  # {}: the embedded broker
    # No worker restarts within a minute, so that no successor ends the track.
    hub = start_hub([camera, ABSENT], recorder(), env={"SLOT_TIMEOUT_S": "60"}, **broker)
    with redis.Redis.from_url(broker["redis"]["url"] if broker else hub.broker_url()) as client:
        until(lambda: "nvision.zone.entered" in [each["type"] for each in events(client)])
        if fate == "removed_while_stopped":
            hub.kill()
            hub.change([ABSENT])
            hub.start()
        else:
            os.kill(hub.member_pid("camera:lobby"), signal.SIGKILL)
            hub.change([ABSENT] if fate == "removed" else [camera | {"tracking": "off"}, ABSENT])
        until(lambda: not client.exists("nvision:tracks:open:lobby"))
        found = events(client)
    types = [each["type"].removeprefix("nvision.") for each in found]
    assert types[-2:] == ["zone.left", "track.ended"]
    assert (types.count("track.started"), types.count("track.ended")) == (1, 1)
    assert len({each["id"] for each in found}) == len(found)
    track = found[-1]["data"]["track"]
    assert track["end_reason"] == fate.removesuffix("_while_stopped")
    assert (track["labels"], track["zones"]) == ({"floor": "1"}, [])
    assert found[-1]["source"] == found[0]["source"] == "/nvision-hub/test/lobby"


def fleet_state() -> FleetState:
    """Return the state of a hub without cameras."""
    state = FleetState()
    state.on_message(ProcessChanged(info=ProcessInfo(name="hub", phase="running")), wall=0.0)
    return state


def settings(url: str, folder: Path, **more: Any) -> GatewaySettings:
    """Return the settings of a gateway whose hub has run the camera `lobby`."""
    (folder / "spool" / "lobby").mkdir(parents=True, exist_ok=True)
    spool = SpoolSettings(path=folder / "spool" / "@callback" / "results.sqlite3", max_bytes=2**20, max_age_s=60)
    stream = RedisSettings(url=url, prefix=PREFIX, max_entries=1000)
    return GatewaySettings(host="", port=0, loopback=True, site="test", stream=stream, spool=spool, **more)


def open_tracks(client: redis.Redis, camera: str) -> None:
    """Write the start of `TRACKS` tracks, as the worker of `camera` does."""
    payloads = [encode(open_event()) for _ in range(TRACKS)]
    outgoing = [OutgoingEvent(id="", camera=camera, payload=each, received_at=0.0) for each in payloads]
    for command in track_commands(outgoing, prefix=PREFIX, max_entries=1000):
        client.execute_command(*command)  # type: ignore[no-untyped-call]  # the library lacks the annotation


async def run_until_ended(gateways: list[GatewaySettings], cameras: set[str]) -> None:
    """Run gateways until the cameras have no open tracks."""
    clients = [connect(each.stream.url) for each in gateways]
    tasks = [
        asyncio.create_task(AbandonedTracks(each, fleet_state(), client).run())
        for each, client in zip(gateways, clients, strict=True)
    ]
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await clients[0].exists(*(open_tracks_key(PREFIX, camera) for camera in cameras)):
                assert not any(task.done() for task in tasks)
                await asyncio.sleep(0.05)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(client.aclose() for client in clients))


@pytest.mark.parametrize(
    "topology",
    [
        "debian_redis",
        pytest.param("sentinel_set", marks=pytest.mark.long),
        pytest.param("redis_cluster", marks=pytest.mark.long),
    ],
)
def test_several_gateways_end_a_track_once(topology: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: DebianRedis | SentinelSet | Cluster = request.getfixturevalue(topology)()
    with connect_sync(server.url) as client:
        open_tracks(client, "lobby")
        open_tracks(client, "stranger")  # a camera of another hub
        client.hset(open_tracks_key(PREFIX, "lobby"), "damaged", "{}")
        asyncio.run(run_until_ended([settings(server.url, tmp_path)] * 4, {"lobby"}))
        counts = Counter((each["subject"], each["type"]) for each in events(client, PREFIX))
        assert client.hlen(open_tracks_key(PREFIX, "stranger")) == TRACKS
    assert set(counts.values()) == {1}
    assert sum(event_type == "nvision.track.ended" for _, event_type in counts) == TRACKS


def test_a_fleet_ends_the_tracks_of_a_camera_only_after_its_lease_has_ended(
    debian_redis: Callable[..., DebianRedis], tmp_path: Path
) -> None:
    server = debian_redis()
    fleet = FleetSettings(cameras=("dock",), seal=FleetSeal(key=None, site="test", prefix=PREFIX))
    with connect_sync(server.url) as client:
        for camera in ("lobby", "yard", "dock"):
            open_tracks(client, camera)
        client.hset(lease_key(PREFIX, "yard"), "holder", "a hub that still runs")
        asyncio.run(run_until_ended([settings(server.url, tmp_path, fleet=fleet)], {"lobby"}))
        assert [client.hlen(open_tracks_key(PREFIX, each)) for each in ("yard", "dock")] == [TRACKS, TRACKS]
        client.delete(lease_key(PREFIX, "yard"))
        asyncio.run(run_until_ended([settings(server.url, tmp_path, fleet=fleet)], {"yard"}))
        assert client.hlen(open_tracks_key(PREFIX, "dock")) == TRACKS
