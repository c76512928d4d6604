"""The Ray engine on a real cluster: placement, recovery after crashes, and never two streams of one camera."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

import httpx2
import psutil
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from nvision_hub.cluster.ray.config_store import ConfigStore, GroupKey
from tests.support.clips import ClipSpec
from tests.support.command import run
from tests.support.hubs import announced_gateway
from tests.support.ledger import Ledger
from tests.support.ray_cluster import EngineDriver
from tests.support.recorder import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.ray_cluster import RayCluster
    from tests.support.recorder import Received, Recorder
    from tests.support.redis_server import DebianRedis
    from tests.support.rtsp import GstCamera

CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=4)
TIMEOUT_S: Final = 120.0
EAST: Final = "zone-east-1"
WEST: Final = "zone-west-1"
MAX_IN_FLIGHT: Final = 20  # per camera at 5 frames per second


def wait_for(find: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Return the first true result of `find`."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(httpx2.HTTPError):
            if found := find():
                return found
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Installation:
    """A cameras.yaml, the Ray cluster that runs it, and its broker, service and driver."""

    def __init__(self, folder: Path, cluster: RayCluster, broker: DebianRedis, service: Recorder) -> None:
        self.folder = folder
        self.cluster = cluster
        self.service = service
        self.redis = redis.Redis.from_url(broker.url, decode_responses=True)
        self._content: dict[str, Any] = {
            "site": "test",
            "nvision": {"url": service.url, "streaming_key": KEY},
            "redis": {"url": broker.url},
            "gateway": {"listen": "127.0.0.1:0"},
        }
        self.driver = EngineDriver(cluster=cluster, config=folder / "cameras.yaml", log_file=folder / "driver.log")

    def write(self, *cameras: dict[str, Any]) -> None:
        draft = self.folder / "draft"
        draft.write_text(json.dumps(self._content | {"cameras": cameras}))
        draft.replace(self.folder / "cameras.yaml")

    def wait_for_frames(self, *cameras: str, count: int = 5) -> None:
        """Wait until the service receives `count` more frames of each camera."""
        for camera in cameras:
            self.service.wait_for(len(self.service.received(camera)) + count, camera, TIMEOUT_S)

    def cameras(self) -> dict[str, dict[str, Any]]:
        """Return all cameras from the API of the fleet's gateway."""
        with httpx2.Client(base_url=announced_gateway(self.redis), trust_env=False) as client:
            return {it["id"]: it for it in client.get("/api/v1/cameras").raise_for_status().json()["cameras"]}

    def ledgers(self) -> dict[str, Ledger]:
        """Return the counters of each camera from the metrics of the fleet's gateway."""
        with httpx2.Client(base_url=announced_gateway(self.redis), trust_env=False) as client:
            text = client.get("/metrics").raise_for_status().text
        found: dict[str, list[list[Any]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = dict(sample.labels)
                found[labels.pop("camera", "")].append([sample.name.removeprefix("nvision_hub_"), labels, sample.value])
        return {camera: Ledger.of({"counters": series}) for camera, series in found.items()}

    def redis_keys(self, pattern: str) -> list[str]:
        """Return the matching keys in Redis."""
        return [str(name) for name in self.redis.scan_iter(pattern)]

    def pid(self, group: str) -> int:
        pid: int = wait_for(lambda: self.cluster.status(group).get("pid"))
        return pid


@pytest.fixture
def installation(
    tmp_path: Path,
    ray_cluster: Callable[..., RayCluster],
    debian_redis: Callable[..., DebianRedis],
    recorder: Callable[..., Recorder],
) -> Iterator[Installation]:
    it = Installation(tmp_path, ray_cluster(), debian_redis(), recorder())
    yield it
    it.driver.end()
    it.redis.close()


def overlaps(received: list[Received]) -> list[str]:
    """Return the times at which two connections sent frames of one camera."""
    spans: dict[tuple[str, int], list[float]] = defaultdict(list)
    for record in received:
        spans[record.source_id, record.connection].append(record.at)
    ordered = sorted((camera, min(at), max(at)) for (camera, _), at in spans.items())
    return [
        f"{camera}: {start:.2f} before {end:.2f}"
        for (before, _, end), (camera, start, _) in itertools.pairwise(ordered)
        if before == camera and start < end
    ]


@pytest.mark.long
def test_groups_run_on_their_nodes_and_recover_and_never_run_twice(
    installation: Installation, gst_camera: Callable[..., GstCamera]
) -> None:
    it = installation
    source = gst_camera({f"/{name}": CLIP for name in ("e1", "e2", "w1", "w2")})

    def camera(name: str, zone: str) -> dict[str, Any]:
        return {"id": name, "url": source.url(f"/{name}"), "fps": 5, "placement": {"zone": zone}}

    east, west = it.cluster.add("east", zone="east"), it.cluster.add("west", zone="west")
    e1, w1 = camera("e1", "east"), camera("w1", "west")
    it.write(e1, w1)
    it.driver.start()
    it.driver.wait_until_settled(1)
    assert (it.cluster.status(EAST)["node"], it.cluster.status(WEST)["node"]) == (east, west)
    it.wait_for_frames("e1", "w1")
    wait_for(
        lambda: (
            {name: camera["state"] for name, camera in it.cameras().items()} == {"e1": "streaming", "w1": "streaming"}
        )
    )

    # Adding two cameras and removing one does not disturb the others.
    before = it.cluster.status(WEST)["pid"]
    it.write(e1, camera("e2", "east"), w1, camera("w2", "west"))
    it.driver.wait_until_settled(2)
    it.wait_for_frames("e1", "e2", "w1", "w2")
    it.write(e1, camera("e2", "east"), w1)
    it.driver.wait_until_settled(3)
    wait_for(lambda: set(it.cameras()) == {"e1", "e2", "w1"})
    assert it.cluster.status(WEST)["pid"] == before

    # The groups keep running after the driver has ended.
    assert it.driver.end() == 130
    it.wait_for_frames("e1", "e2", "w1")
    check_recovery(it, survivor=east)
    check_commands(it)
    check_counters(it)
    check_drain(it)


def check_recovery(it: Installation, survivor: str) -> None:
    """Kill a supervisor, an actor and a node while no driver runs."""
    # kill -9 of a supervisor.
    pid = it.pid(EAST)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: it.cluster.status(EAST).get("pid") not in {None, pid})
    it.wait_for_frames("e1", "e2", "w1")

    # kill -9 of an actor: its hub dies with it, and Ray restarts the actor.
    status = it.cluster.status(WEST)
    os.kill(status["actor_pid"], signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(status["pid"]))
    wait_for(lambda: it.cluster.status(WEST).get("pid") not in {None, status["pid"]})
    it.wait_for_frames("e1", "e2", "w1")

    # A node is lost: its group moves to the other node.
    it.cluster.remove("west")
    wait_for(lambda: it.cluster.status(WEST).get("node") == survivor)
    it.wait_for_frames("w1")
    wait_for(lambda: {camera["state"] for camera in it.cameras().values()} == {"streaming"})


def check_commands(it: Installation) -> None:
    """Assert that commands reach a group on any node. The command line finds the gateway through Redis."""
    call = ("--config", it.folder / "cameras.yaml")
    for verb, state in (("pause", "paused"), ("resume", "streaming")):
        done = run(verb, "w1", *call, cwd=it.folder)
        assert done.returncode == 0, done.stderr
        wait_for(lambda state=state: it.cameras()["w1"]["state"] == state)  # type: ignore[misc]
    table = run("status", *call, "--json", cwd=it.folder)
    assert [camera["id"] for camera in json.loads(table.stdout)["cameras"]] == ["e1", "e2", "w1"], table.stderr
    it.wait_for_frames("w1")


def check_counters(it: Installation) -> None:
    """Assert that counters balance exactly, except for frames in flight when a worker was killed."""
    arrived = Counter(record.source_id for record in it.service.received())
    ledgers = it.ledgers()
    for name, kills in (("e1", 1), ("e2", 1), ("w1", 2)):
        assert 0 <= ledgers[name].frames_off <= kills * MAX_IN_FLIGHT, ledgers[name]
        assert 0 <= ledgers[name].results_off <= kills * MAX_IN_FLIGHT, ledgers[name]
        # If the gateway was on the lost node, the count is lower, because the gateway's counters restart from zero.
        assert 0 < ledgers[name].sent <= arrived[name] + kills * MAX_IN_FLIGHT
    assert "another" not in "".join(camera["error"] or "" for camera in it.cameras().values())


def check_drain(it: Installation) -> None:
    """Assert that a second driver changes nothing, and that no frame arrives after a drain."""
    it.driver.start()
    it.driver.wait_until_settled(4)
    assert it.driver.log().count(" created: ") == 3, "the first driver created two groups and control"
    assert it.driver.end() == 130

    ended = run("start", it.folder / "cameras.yaml", "--engine", "ray", "--address", it.cluster.address, "--drain",
                cwd=it.folder, env=it.cluster.env, timeout_s=TIMEOUT_S)  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    at = time.monotonic()
    assert not [name for name in it.redis_keys("nvision:leases:*") if not name.endswith(":epochs")]
    assert it.redis_keys("nvision:groups:*") == []
    time.sleep(2.0)  # long enough for an unwanted frame to arrive
    received = it.service.received()
    assert max(record.at for record in received) <= at
    assert overlaps(received) == []
    assert len({record.frame_id for record in received}) == len(received)


@pytest.mark.long
@pytest.mark.slow
def test_invalid_options_and_configurations_are_rejected(
    tmp_path: Path, debian_redis: Callable[..., DebianRedis]
) -> None:
    file = tmp_path / "cameras.yaml"
    file.write_text(json.dumps({"nvision": {"url": "local"}, "cameras": [{"id": "a", "url": "demo://street"}]}))
    embedded = run("start", file, "--engine", "ray", cwd=tmp_path)
    assert (embedded.returncode, "redis.url: the embedded broker" in embedded.stderr) == (78, True)
    assert run("start", file, "--engine", "ray", "--only", "a", cwd=tmp_path).returncode == 2
    assert run("start", file, "--drain", cwd=tmp_path).returncode == 2
    content = json.loads(file.read_text()) | {"redis": {"url": debian_redis().url}}
    file.write_text(json.dumps(content))
    nowhere = run("start", file, "--engine", "ray", "--address", "127.0.0.1:1", cwd=tmp_path, timeout_s=TIMEOUT_S)
    assert nowhere.returncode == 69
    assert "no Ray cluster answers at 127.0.0.1:1" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr


@pytest.mark.long
def test_a_cluster_without_authentication_needs_an_explicit_option(
    tmp_path: Path, ray_cluster: Callable[..., RayCluster], debian_redis: Callable[..., DebianRedis]
) -> None:
    cluster = ray_cluster(token=None)
    file = tmp_path / "cameras.yaml"
    content = {
        "site": "test",
        "nvision": {"url": "local"},
        "redis": {"url": debian_redis().url},
        "cameras": [{"id": "a", "url": "demo://street"}],
    }
    file.write_text(json.dumps(content))
    call = ("start", file, "--engine", "ray", "--address", cluster.address, "--drain")
    refused = run(*call, cwd=tmp_path, env=cluster.env, timeout_s=TIMEOUT_S)
    assert refused.returncode == 69
    assert "requires no authentication" in refused.stderr
    allowed = run(*call, "--insecure-cluster", cwd=tmp_path, env=cluster.env, timeout_s=TIMEOUT_S)
    assert allowed.returncode == 0, allowed.stderr


def test_only_the_actor_can_decrypt_a_stored_config(debian_redis: Callable[..., DebianRedis]) -> None:
    broker = debian_redis()
    group = GroupKey(site="test", group="any-1", redis_url=broker.url, prefix="nvision")
    key = ConfigStore.new_key()
    store = ConfigStore(group, key)
    assert store.get() is None
    store.put("password: hunter2")
    with redis.Redis.from_url(broker.url) as client:
        encrypted = client.get("nvision:groups:any-1")
    assert isinstance(encrypted, bytes)
    assert b"hunter2" not in encrypted
    assert ConfigStore(group, key).get() == "password: hunter2"
    assert ConfigStore(group, ConfigStore.new_key()).get() is None
    store.clear()
    assert store.get() is None
