"""The Ray engine on a real cluster: cameras run where they should, whatever dies comes back, and none runs twice."""

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

from nvision_hub.engine.vault import Seat, Vault
from tests.support.clips import ClipSpec
from tests.support.command import run
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
WITHIN_S: Final = 120.0
EAST: Final = "zone-east-1"
WEST: Final = "zone-west-1"
IN_FLIGHT_MAX: Final = 20  # of a camera at 5 pictures a second


def until(look: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(httpx2.HTTPError):
            if found := look():
                return found
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Installation:
    """A cameras.yaml, what it needs, and the cluster that runs it."""

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

    def streams(self, *cameras: str, more: int = 5) -> None:
        """Wait until the service has so many pictures more of each."""
        for camera in cameras:
            self.service.wait_for(len(self.service.received(camera)) + more, camera, WITHIN_S)

    def shown(self) -> dict[str, dict[str, Any]]:
        """All cameras, as the gateway of the fleet shows them."""
        with httpx2.Client(base_url=str(self.redis.get("nvision:fleet:gateway")), trust_env=False) as client:
            return {it["id"]: it for it in client.get("/api/v1/cameras").raise_for_status().json()["cameras"]}

    def ledgers(self) -> dict[str, Ledger]:
        """Each camera's account, as the gateway of the fleet exposes it."""
        with httpx2.Client(base_url=str(self.redis.get("nvision:fleet:gateway")), trust_env=False) as client:
            text = client.get("/metrics").raise_for_status().text
        found: dict[str, list[list[Any]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = dict(sample.labels)
                found[labels.pop("camera", "")].append([sample.name.removeprefix("nvision_hub_"), labels, sample.value])
        return {camera: Ledger.of({"counters": series}) for camera, series in found.items()}

    def names(self, pattern: str) -> list[str]:
        """The keys in Redis that are so named."""
        return [str(name) for name in self.redis.scan_iter(pattern)]

    def pid(self, group: str) -> int:
        pid: int = until(lambda: self.cluster.told(group).get("pid"))
        return pid


@pytest.fixture
def installation(
    tmp_path: Path,
    ray_cluster: Callable[..., RayCluster],
    debian_redis: Callable[..., DebianRedis],
    recorder: Callable[..., Recorder],
) -> Iterator[Installation]:
    found = Installation(tmp_path, ray_cluster(), debian_redis(), recorder())
    yield found
    found.driver.end()
    found.redis.close()


def overlaps(received: list[Received]) -> list[str]:
    """Where two connections have sent pictures of one camera at the same time."""
    spans: dict[tuple[str, int], list[float]] = defaultdict(list)
    for record in received:
        spans[record.source_id, record.connection].append(record.at)
    ordered = sorted((camera, min(at), max(at)) for (camera, _), at in spans.items())
    return [
        f"{camera}: {began:.2f} before {end:.2f}"
        for (before, _, end), (camera, began, _) in itertools.pairwise(ordered)
        if before == camera and began < end
    ]


@pytest.mark.long
def test_groups_run_where_they_should_come_back_and_never_run_twice(
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
    it.driver.settled(1)
    assert (it.cluster.told(EAST)["node"], it.cluster.told(WEST)["node"]) == (east, west)
    it.streams("e1", "w1")
    until(
        lambda: {name: shown["state"] for name, shown in it.shown().items()} == {"e1": "streaming", "w1": "streaming"}
    )

    # Two more cameras touch no other, and neither does one that goes.
    before = it.cluster.told(WEST)["pid"]
    it.write(e1, camera("e2", "east"), w1, camera("w2", "west"))
    it.driver.settled(2)
    it.streams("e1", "e2", "w1", "w2")
    it.write(e1, camera("e2", "east"), w1)
    it.driver.settled(3)
    until(lambda: set(it.shown()) == {"e1", "e2", "w1"})
    assert it.cluster.told(WEST)["pid"] == before

    # The driver may end.
    assert it.driver.end() == 130
    it.streams("e1", "e2", "w1")
    deaths(it, survivor=east)
    asked_for(it)
    accounts(it)
    drained(it)


def deaths(it: Installation, survivor: str) -> None:
    """Of all that can die, while no driver runs."""
    # kill -9 of a supervisor.
    pid = it.pid(EAST)
    os.kill(pid, signal.SIGKILL)
    until(lambda: it.cluster.told(EAST).get("pid") not in {None, pid})
    it.streams("e1", "e2", "w1")

    # kill -9 of an actor: what it had started dies with it, and all comes back though no driver runs.
    told = it.cluster.told(WEST)
    os.kill(told["actor_pid"], signal.SIGKILL)
    until(lambda: not psutil.pid_exists(told["pid"]))
    until(lambda: it.cluster.told(WEST).get("pid") not in {None, told["pid"]})
    it.streams("e1", "e2", "w1")

    # A node is lost: its group goes where there is room.
    it.cluster.remove("west")
    until(lambda: it.cluster.told(WEST).get("node") == survivor)
    it.streams("w1")
    until(lambda: {shown["state"] for shown in it.shown().values()} == {"streaming"})


def asked_for(it: Installation) -> None:
    """What operators ask for reaches a group wherever it is; the command line finds the gateway through Redis."""
    call = ("--config", it.folder / "cameras.yaml")
    for verb, state in (("pause", "paused"), ("resume", "streaming")):
        done = run(verb, "w1", *call, cwd=it.folder)
        assert done.returncode == 0, done.stderr
        until(lambda state=state: it.shown()["w1"]["state"] == state)  # type: ignore[misc]
    table = run("status", *call, "--json", cwd=it.folder)
    assert [shown["id"] for shown in json.loads(table.stdout)["cameras"]] == ["e1", "e2", "w1"], table.stderr
    it.streams("w1")


def accounts(it: Installation) -> None:
    """That of the workers that live balances to the unit; of those killed, what was on its way is unknown."""
    arrived = Counter(record.source_id for record in it.service.received())
    known = it.ledgers()
    for name, kills in (("e1", 1), ("e2", 1), ("w1", 2)):
        assert 0 <= known[name].frames_off <= kills * IN_FLIGHT_MAX, known[name]
        assert 0 <= known[name].results_off <= kills * IN_FLIGHT_MAX, known[name]
        # Less where the gateway itself was on the node that was lost: it begins anew, as counters may.
        assert 0 < known[name].sent <= arrived[name] + kills * IN_FLIGHT_MAX
    assert "another" not in "".join(shown["error"] or "" for shown in it.shown().values())


def drained(it: Installation) -> None:
    """A second driver finds all as it should be; once drained, nothing comes any more."""
    it.driver.start()
    it.driver.settled(4)
    assert it.driver.log().count("is new") == 3, "two groups and control, by the first driver"
    assert it.driver.end() == 130

    ended = run("start", it.folder / "cameras.yaml", "--engine", "ray", "--address", it.cluster.address, "--drain",
                cwd=it.folder, env=it.cluster.env, within_s=WITHIN_S)  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    at = time.monotonic()
    assert not [name for name in it.names("nvision:leases:*") if not name.endswith(":epochs")]
    assert it.names("nvision:groups:*") == []
    time.sleep(2.0)  # what should not come has had its time
    received = it.service.received()
    assert max(record.at for record in received) <= at
    assert overlaps(received) == []
    assert len({record.frame_id for record in received}) == len(received)


@pytest.mark.long
@pytest.mark.slow
def test_what_an_engine_refuses(tmp_path: Path, debian_redis: Callable[..., DebianRedis]) -> None:
    file = tmp_path / "cameras.yaml"
    file.write_text(json.dumps({"nvision": {"url": "local"}, "cameras": [{"id": "a", "url": "demo://street"}]}))
    embedded = run("start", file, "--engine", "ray", cwd=tmp_path)
    assert (embedded.returncode, "redis.url: embedded" in embedded.stderr) == (78, True)
    assert run("start", file, "--engine", "ray", "--only", "a", cwd=tmp_path).returncode == 2
    assert run("start", file, "--drain", cwd=tmp_path).returncode == 2
    content = json.loads(file.read_text()) | {"redis": {"url": debian_redis().url}}
    file.write_text(json.dumps(content))
    nowhere = run("start", file, "--engine", "ray", "--address", "127.0.0.1:1", cwd=tmp_path, within_s=WITHIN_S)
    assert nowhere.returncode == 69
    assert "no Ray cluster answers at 127.0.0.1:1" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr


@pytest.mark.long
def test_a_cluster_that_lets_anybody_in_is_refused_unless_told(
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
    refused = run(*call, cwd=tmp_path, env=cluster.env, within_s=WITHIN_S)
    assert refused.returncode == 69
    assert "lets anybody in" in refused.stderr
    told = run(*call, "--insecure-cluster", cwd=tmp_path, env=cluster.env, within_s=WITHIN_S)
    assert told.returncode == 0, told.stderr


def test_what_redis_keeps_of_a_group_is_for_its_actor_alone(debian_redis: Callable[..., DebianRedis]) -> None:
    broker = debian_redis()
    seat = Seat(site="test", group="any-1", redis_url=broker.url, prefix="nvision")
    key = Vault.new_key()
    vault = Vault(seat, key)
    assert vault.get() is None
    vault.put("password: hunter2")
    with redis.Redis.from_url(broker.url) as client:
        sealed = client.get("nvision:groups:any-1")
    assert isinstance(sealed, bytes)
    assert b"hunter2" not in sealed
    assert Vault(seat, key).get() == "password: hunter2"
    assert Vault(seat, Vault.new_key()).get() is None
    vault.empty()
    assert vault.get() is None
