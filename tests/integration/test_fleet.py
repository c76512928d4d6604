"""Several hubs on one Redis, as an engine starts them: a camera is one hub's at a time, one gateway shows them all."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
import redis

from nvision_hub.part import CONTROL, VARIABLE
from tests.support.clips import ClipSpec
from tests.support.command import environment
from tests.support.recorder import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis
    from tests.support.rtsp import GstCamera

pytestmark = pytest.mark.slow

CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=4)
WITHIN_S: Final = 60.0


class Hubs:
    """Hubs of a fleet, each a program with a state_dir of its own."""

    def __init__(self, folder: Path, broker: DebianRedis, service: Recorder) -> None:
        self.folder = folder
        self.redis = redis.Redis.from_url(broker.url, decode_responses=True)
        self.service = service
        self._broker = broker
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, group: str, *cameras: dict[str, Any]) -> None:
        home = self.folder / group
        home.mkdir(exist_ok=True)
        content = {
            "nvision": {"url": self.service.url, "streaming_key": KEY},
            "redis": {"url": self._broker.url},
            "gateway": {"listen": "127.0.0.1:0" if group == CONTROL else "none"},
            "cameras": cameras,
        }
        (home / "cameras.yaml").write_text(json.dumps(content))
        with (home / "hub.log").open("ab") as log:
            self.processes[group] = subprocess.Popen(
                [sys.executable, "-m", "nvision_hub", "start", home / "cameras.yaml"],
                env=environment({VARIABLE: group}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def signal(self, group: str, number: signal.Signals) -> None:
        """To all its processes, as what befalls a machine."""
        os.killpg(self.processes[group].pid, number)

    def holder(self) -> str | None:
        """The group that holds the camera."""
        holder = self.redis.hget("nvision:leases:{lobby}", "holder")
        return None if holder is None else str(holder).partition(" ")[0]

    def shown(self) -> dict[str, Any]:
        """The camera, as the gateway of the fleet shows it."""
        with httpx2.Client(base_url=str(self.redis.get("nvision:fleet:gateway")), trust_env=False) as client:
            found: dict[str, Any] = client.get("/api/v1/cameras/lobby").raise_for_status().json()
            return found

    def log(self, group: str) -> str:
        return (self.folder / group / "hub.log").read_text()

    def close(self) -> None:
        for process in self.processes.values():
            for number in (signal.SIGCONT, signal.SIGTERM):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        for process in self.processes.values():
            try:
                process.wait(20)
            finally:
                process.kill()
        self.redis.close()


@pytest.fixture
def hubs(tmp_path: Path, debian_redis: Callable[..., DebianRedis], recorder: Callable[..., Recorder]) -> Iterator[Hubs]:
    found = Hubs(tmp_path, debian_redis(), recorder())
    yield found
    found.close()


def until(look: Callable[[], Any]) -> Any:
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        with contextlib.suppress(httpx2.HTTPError):
            if found := look():
                return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.long
def test_a_camera_that_two_hubs_want_is_streamed_by_one_at_a_time(
    hubs: Hubs, gst_camera: Callable[..., GstCamera]
) -> None:
    lobby = {"id": "lobby", "url": gst_camera(CLIP).url(), "fps": 5}
    hubs.start("any-1", lobby)
    hubs.service.wait_for(5, "lobby", WITHIN_S)
    hubs.start("any-2", lobby)
    until(lambda: len(hubs.service.handshakes()) > 1)
    hubs.service.wait_for(len(hubs.service.received()) + 10, "lobby", WITHIN_S)
    assert {record.connection for record in hubs.service.received()} == {1}

    # One that stands still, and goes on when another has begun.
    hubs.signal("any-1", signal.SIGSTOP)
    until(lambda: hubs.holder() == "any-2")
    hubs.service.wait_for(len(hubs.service.received()) + 10, "lobby", WITHIN_S)
    hubs.signal("any-1", signal.SIGCONT)
    hubs.service.wait_for(len(hubs.service.received()) + 20, "lobby", WITHIN_S)
    assert hubs.holder() == "any-2"

    # One that dies.
    hubs.signal("any-2", signal.SIGKILL)
    until(lambda: hubs.holder() == "any-1")
    hubs.service.wait_for(len(hubs.service.received()) + 10, "lobby", WITHIN_S)
    received = hubs.service.received("lobby")
    by_second = [record.connection == 2 for record in received]
    handovers = sum(one != other for one, other in itertools.pairwise(by_second))
    assert handovers == 2, "the first, then the second, then the first again"
    assert len({record.frame_id for record in received}) == len(received)


@pytest.mark.long
def test_one_gateway_shows_and_steers_the_cameras_of_another_hub(
    hubs: Hubs, gst_camera: Callable[..., GstCamera]
) -> None:
    lobby = {"id": "lobby", "url": gst_camera(CLIP).url(), "fps": 5}
    hubs.start(CONTROL, lobby)
    until(lambda: hubs.shown()["state"] == "starting")
    hubs.start("any-1", lobby)
    until(lambda: hubs.shown()["state"] == "streaming" and hubs.shown()["sent"] > 5)
    base = str(hubs.redis.get("nvision:fleet:gateway"))
    with httpx2.Client(base_url=base, trust_env=False, timeout=30.0) as client:
        assert client.post("/api/v1/cameras/lobby/pause").json()["paused"] is True
        until(lambda: hubs.shown()["state"] == "paused")
        client.post("/api/v1/cameras/lobby/resume").raise_for_status()
        until(lambda: hubs.shown()["state"] == "streaming")
        tuned = client.patch("/api/v1/cameras/lobby", json={"fps": 2})
        assert tuned.json()["fps"] == 2
        assert client.patch("/api/v1/cameras/lobby", json={"jpeg_quality": 0}).status_code == 422
        assert client.get("/api/v1/cameras/lobby/snapshot.jpg").content.startswith(b"\xff\xd8")
        refused = client.delete("/api/v1/cameras/lobby")
        assert refused.status_code == 409
        assert "cameras.yaml" in refused.json()["detail"]
        names = {process["name"] for process in client.get("/api/v1/hub").json()["processes"]}
        assert {"gateway", "hub", "camera:lobby", "relay@any-1", "hub@any-1"} <= names
        sent = until(lambda: hubs.shown()["sent"])

        # Its hub dies: it is shown, not as streaming, and nothing that was counted is forgotten.
        hubs.signal("any-1", signal.SIGKILL)
        hubs.processes["any-1"].wait()
        until(lambda: hubs.shown()["state"] == "starting")
        assert hubs.shown()["sent"] >= sent
        assert client.post("/api/v1/cameras/lobby/pause").status_code == 409
        hubs.start("any-1", lobby)
        until(lambda: hubs.shown()["state"] == "streaming")
        until(lambda: hubs.shown()["sent"] > sent)
