"""Several hubs on one Redis, as an engine starts them: each camera has one hub, and one gateway shows all cameras."""

from __future__ import annotations

import itertools
import signal
from typing import TYPE_CHECKING, Final

import httpx2
import pytest

from nvision_hub.cluster.identity import CONTROL
from tests.support.clips import ClipSpec
from tests.support.hubs import announced_gateway, wait_for
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hubs import Hubs
    from tests.support.rtsp import GstCamera

pytestmark = pytest.mark.slow

CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=4)
TIMEOUT_S: Final = PATIENCE_S


@pytest.mark.long
def test_one_of_two_hubs_streams_a_camera_at_a_time(hubs: Hubs, gst_camera: Callable[..., GstCamera]) -> None:
    lobby = {"id": "lobby", "url": gst_camera(CLIP).url(), "fps": 5}
    hubs.start("any-1", lobby)
    hubs.service.wait_for(5, "lobby", TIMEOUT_S)
    hubs.start("any-2", lobby)
    wait_for(lambda: len(hubs.service.handshakes()) > 1)
    hubs.service.wait_for(len(hubs.service.received()) + 10, "lobby", TIMEOUT_S)
    assert {record.connection for record in hubs.service.received()} == {1}

    # A hub is suspended and resumes after another hub has taken over.
    hubs.signal("any-1", signal.SIGSTOP)
    wait_for(lambda: hubs.holder() == "any-2")
    hubs.service.wait_for(len(hubs.service.received()) + 10, "lobby", TIMEOUT_S)
    hubs.signal("any-1", signal.SIGCONT)
    hubs.service.wait_for(len(hubs.service.received()) + 20, "lobby", TIMEOUT_S)
    assert hubs.holder() == "any-2"

    # A hub crashes.
    hubs.signal("any-2", signal.SIGKILL)
    wait_for(lambda: hubs.holder() == "any-1")
    hubs.service.wait_for(len(hubs.service.received()) + 10, "lobby", TIMEOUT_S)
    received = hubs.service.received("lobby")
    by_second = [record.connection == 2 for record in received]
    handovers = sum(one != other for one, other in itertools.pairwise(by_second))
    assert handovers == 2, "the camera moves from the first hub to the second and back"
    assert len({record.frame_id for record in received}) == len(received)


@pytest.mark.long
def test_one_gateway_shows_and_controls_the_cameras_of_another_hub(
    hubs: Hubs, gst_camera: Callable[..., GstCamera]
) -> None:
    lobby = {"id": "lobby", "url": gst_camera(CLIP).url(), "fps": 5}
    hubs.start(CONTROL, lobby)
    wait_for(lambda: hubs.shown()["state"] == "starting")
    hubs.start("any-1", lobby)
    wait_for(lambda: hubs.shown()["state"] == "streaming" and hubs.shown()["sent"] > 5)
    base = announced_gateway(hubs.redis)
    with httpx2.Client(base_url=base, trust_env=False, timeout=30.0) as client:
        assert client.post("/api/v1/cameras/lobby/pause").json()["paused"] is True
        wait_for(lambda: hubs.shown()["state"] == "paused")
        client.post("/api/v1/cameras/lobby/resume").raise_for_status()
        wait_for(lambda: hubs.shown()["state"] == "streaming")
        tuned = client.patch("/api/v1/cameras/lobby", json={"fps": 2})
        assert tuned.json()["fps"] == 2
        assert client.patch("/api/v1/cameras/lobby", json={"jpeg_quality": 0}).status_code == 422
        assert client.get("/api/v1/cameras/lobby/snapshot.jpg").content.startswith(b"\xff\xd8")
        refused = client.delete("/api/v1/cameras/lobby")
        assert refused.status_code == 409
        assert "cameras.yaml" in refused.json()["detail"]
        names = {process["name"] for process in client.get("/api/v1/hub").json()["processes"]}
        assert {"gateway", "hub", "camera:lobby", "relay@any-1", "hub@any-1"} <= names
        sent = wait_for(lambda: hubs.shown()["sent"])

        # If the hub crashes, the gateway shows the camera as not streaming, and the counters keep their values.
        hubs.signal("any-1", signal.SIGKILL)
        hubs.processes["any-1"].wait()
        wait_for(lambda: hubs.shown()["state"] == "starting")
        assert hubs.shown()["sent"] >= sent
        assert client.post("/api/v1/cameras/lobby/pause").status_code == 409
        hubs.start("any-1", lobby)
        wait_for(lambda: hubs.shown()["state"] == "streaming")
        wait_for(lambda: hubs.shown()["sent"] > sent)
