"""A real hub behind its gateway: the hub carries out requests, and counters never decrease."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nvision_hub.runtime import process_stats
from tests.support import asyncapi
from tests.support.clips import ClipSpec
from tests.support.patience import PATIENCE_S
from tests.support.receiver import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.hub import Hub
    from tests.support.mosquitto import Mosquitto
    from tests.support.receiver import Receiver
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera

pytestmark = pytest.mark.slow

CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=4)
TIMEOUT_S: Final = PATIENCE_S
KILLS: Final = 12
SCRAPES: Final = 20  # after each kill


@contextlib.contextmanager
def client_of(hub: Hub) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=hub.gateway(), timeout=30.0, trust_env=False) as client:
        yield client


def until(find: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Return the first true result of `find`. The gateway may be unreachable until then."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(httpx2.HTTPError):
            if found := find():
                return found
        assert time.monotonic() < deadline, find()
        time.sleep(0.1)


def counters(client: httpx2.Client) -> dict[str, float]:
    """Return every counter and every histogram count by name and labels."""
    text = client.get("/metrics").raise_for_status().text
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        if family.type in {"counter", "histogram"}
        for sample in family.samples
    }


def test_a_hub_carries_out_requests(
    start_hub: Callable[..., Hub], gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder]
) -> None:
    camera, service = gst_camera(CLIP), recorder()
    hub = start_hub([{"id": "lobby", "url": camera.url(), "fps": 5}], service, gateway=True)
    hub.wait_for_results("lobby", 2)
    with client_of(hub) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/api/v1/cameras/lobby/pause").json()["paused"] is True
        hub.wait_for_state("lobby", "paused")
        assert until(lambda: client.get("/api/v1/cameras/lobby").json()["state"] == "paused")
        assert client.post("/api/v1/cameras/lobby/resume").json()["paused"] is False
        until(lambda: client.get("/api/v1/cameras/lobby").json()["state"] == "streaming")
        tuned = client.patch("/api/v1/cameras/lobby", json={"fps": 2, "max_width": 320}).json()
        assert (tuned["fps"], tuned["run_time"]["set"]) == (2, {"fps": 2, "max_width": 320})
        snapshot = client.get("/api/v1/cameras/lobby/snapshot.jpg")
        assert (snapshot.status_code, snapshot.headers["content-type"]) == (200, "image/jpeg")
        assert snapshot.content.startswith(b"\xff\xd8")
        drawn = client.get("/api/v1/cameras/lobby/snapshot.jpg?boxes=1")
        assert drawn.status_code == 200
        assert drawn.content.startswith(b"\xff\xd8")
        small = client.get("/api/v1/cameras/lobby/tuning?fps=1&jpeg_quality=30&max_width=160").json()
        large = client.get("/api/v1/cameras/lobby/tuning?fps=2&jpeg_quality=90&max_width=320").json()
        assert (small["width"], small["height"], small["images_per_day"]) == (160, 90, 86_400)
        assert small["bytes_per_picture"] < large["bytes_per_picture"]
        assert large["bytes_per_hour"] == 7200 * large["bytes_per_picture"]
        added = client.post("/api/v1/cameras", json={"id": "gate", "url": camera.url(), "fps": 1})
        assert added.status_code == 201
        until(lambda: client.get("/api/v1/cameras/gate").json()["state"] == "streaming")
        assert [shown["id"] for shown in client.get("/api/v1/cameras").json()["cameras"]] == ["lobby", "gate"]
        again = client.post("/api/v1/cameras", json={"id": "gate", "url": camera.url()})
        assert (again.status_code, again.json()["status"]) == (409, 409)
        rejected = client.post("/api/v1/cameras", json={"id": "door", "url": "rstp://x/"})
        assert rejected.status_code == 422
        assert rejected.json()["detail"].startswith("The hub rejected the request: url: ")
        pid = hub.pid("camera:lobby")
        assert client.post("/api/v1/cameras/lobby/restart").status_code == 202
        hub.wait_until(lambda: hub.pid("camera:lobby") not in {None, pid})
        assert until(lambda: client.get("/api/v1/cameras/lobby").json()["restarts"].get("asked")) == 1
        assert client.delete("/api/v1/cameras/gate").status_code == 204
        until(lambda: client.get("/api/v1/cameras/gate").status_code == 404)
        until(lambda: 'camera="gate"' not in client.get("/metrics").text)
        history = until(lambda: any((found := client.get("/api/v1/cameras/lobby/history").json())["rate_in"]) and found)
        by_reason = history.pop("dropped_by_reason_per_s")
        columns = [*by_reason.values(), *(history[name] for name in history if isinstance(history[name], list))]
        assert len({len(column) for column in columns}) == 1
        names = [process["name"] for process in client.get("/api/v1/hub").json()["processes"]]
        assert {"broker", "gateway", "camera:lobby", "hub"} <= set(names)
    assert hub.stop() == 0


@pytest.mark.long
def test_every_process_reports_its_resources(
    start_hub: Callable[..., Hub], receiver: Callable[..., Receiver], mosquitto: Callable[..., Mosquitto]
) -> None:
    hub = start_hub(
        [{"id": "street", "url": "demo://street", "fps": 1}],
        None,
        gateway=True,
        webhooks=[{"id": "alarms", "url": receiver().url(), "secret": SECRET, "allow_private": True}],
        mqtt={"url": mosquitto().url},
        nvision={"url": "local", "model": "moving"},
    )
    hub.wait_until(lambda: bool((hub._members.get("gateway") or {}).get("status")))
    names = {"hub", "broker", "service", "demo", "webhooks", "mqtt", "gateway", "camera:street"}

    def has_resources(process: dict[str, Any]) -> bool:
        return process["cpu"] is not None and (process["memory_bytes"] or 0) > 1_000_000

    with client_of(hub) as client:
        found = until(
            lambda: (
                {each["name"] for each in client.get("/api/v1/hub").json()["processes"] if has_resources(each)} >= names
            )
        )
        assert found
        assert client.get("/api/v1/hub").json()["models"]["objects"] == "moving objects, without a model"
        broker = next(p for p in client.get("/api/v1/hub").json()["processes"] if p["name"] == "broker")
        program = hub._members["broker"]["status"]["info"]["program"]
        assert broker["memory_bytes"] > process_stats.private_memory_bytes(program) / 2
        text = client.get("/metrics").text
        for name in names:
            for metric in ("worker_cpu_seconds_total", "worker_memory_bytes"):
                assert re.search(rf'nvision_hub_{metric}{{[^}}]*worker="{name}"', text), (metric, name)


@pytest.mark.long
def test_restarts_and_losses_are_published(
    start_hub: Callable[..., Hub], gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder]
) -> None:
    camera, service = gst_camera(CLIP), recorder()
    hub = start_hub([{"id": "lobby", "url": camera.url(), "fps": 5}], service, gateway=True)
    hub.wait_for_results("lobby", 2)
    with hub.redis() as broker, broker.pubsub() as subscription, client_of(hub) as client:
        subscription.subscribe("nvision:events")

        def next_event(kind: str) -> dict[str, Any]:
            """Return the next event of a kind."""
            while True:
                message: Any = subscription.get_message(timeout=TIMEOUT_S)
                assert message is not None, f"no {kind} within {TIMEOUT_S} s"
                if message["type"] == "message" and (event := json.loads(message["data"]))["kind"] == kind:
                    found: dict[str, Any] = event
                    return found

        # Counts from before the gateway's first sample cause no events, so wait for this sample first.
        until(lambda: any(client.get("/api/v1/cameras/lobby/history").json()["rate_in"]))
        service.set_behavior(answer="text")
        loss = next_event("loss")
        asyncapi.check("loss", loss)
        assert (loss["site"], loss["camera"], loss["what"], loss["reason"]) == (
            "test",
            "lobby",
            "results",
            "unreadable",
        )
        assert loss["count"] >= 1
        service.set_behavior(answer="detection")
        os.kill(hub.member_pid("camera:lobby"), signal.SIGKILL)
        restart = next_event("worker_restart")
        asyncapi.check("workerRestart", restart)
        expected = {"worker": "camera:lobby", "camera": "lobby", "reason": "sigkill", "restarts": 1, "site": "test"}
        assert restart.items() >= expected.items()


@pytest.mark.long
def test_counters_never_decrease_while_workers_and_the_gateway_are_killed(
    start_hub: Callable[..., Hub], gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder]
) -> None:
    url, service = gst_camera(CLIP).url(), recorder()
    cameras = [{"id": name, "url": url, "fps": 5} for name in ("one", "two", "three", "four")]
    hub = start_hub(cameras, service, gateway=True)
    for camera in cameras:
        hub.wait_for_results(str(camera["id"]), 2)
    highest: dict[str, float] = {}
    with client_of(hub) as client:
        for kill in range(KILLS):
            name = "gateway" if kill in {5, 10} else f"camera:{cameras[kill % 4]['id']}"
            hub.wait_until(lambda name=name: hub.pid(name) is not None, TIMEOUT_S)  # type: ignore[misc]
            pid = hub.member_pid(name)
            os.kill(pid, signal.SIGKILL)
            seen, deadline = 0, time.monotonic() + TIMEOUT_S
            while seen < SCRAPES:
                assert time.monotonic() < deadline
                with contextlib.suppress(httpx2.HTTPError):
                    now = counters(client)
                    seen += 1
                    back = {name: (highest[name], value) for name, value in now.items() if value < highest.get(name, 0)}
                    assert back == {}
                    highest |= now
                time.sleep(0.05)
        # Every series must appear again after the restart.
        until(lambda: not (highest.keys() - counters(client).keys()))
        last = counters(client)
    restarts = sum(value for name, value in last.items() if "worker_restarts_total" in name and "sigkill" in name)
    assert restarts == KILLS
