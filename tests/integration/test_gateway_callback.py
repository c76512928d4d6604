"""Callbacks end to end: a real service posts its results to a real hub, which accounts for each result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
import redis

from nvision_hub.broker.embedded_config import claim_port
from nvision_hub.metrics import catalogue
from nvision_hub.nvision.result_events import new_id
from nvision_hub.runtime.messages import FramesAnswered, PostedDetection
from tests.support.clips import ClipSpec
from tests.support.local_service import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.gateway import SupervisedGateway
    from tests.support.hub import Hub
    from tests.support.local_service import LocalService
    from tests.support.rtsp import GstCamera

CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=4)
TOKEN: Final = "canaryCallbackToken"  # used in this test only


@pytest.mark.slow
def test_results_arrive_by_callback_and_every_frame_is_answered(
    start_hub: Callable[..., Hub], gst_camera: Callable[..., GstCamera], local_service: Callable[..., LocalService]
) -> None:
    port = claim_port(0).port
    service = local_service(callback_url=f"http://127.0.0.1:{port}/callback/{TOKEN}")
    hub = start_hub(
        [{"id": "lobby", "url": gst_camera(CLIP).url(), "fps": 5, "labels": {"floor": "1"}}],
        None,
        nvision={"url": service.url, "streaming_key": KEY},
        gateway={"listen": f"127.0.0.1:{port}", "callback_token": TOKEN},
    )
    hub.wait_until(lambda: hub.camera("lobby").total("frames_answered_total") >= 10)
    hub.wait_until(lambda: len(hub.events("lobby")) >= 10)
    events = hub.events("lobby")
    for event in events:
        assert event["source_id"] == event["hub"]["camera"] == "lobby"
        assert event["hub"]["id"] == event["frame_id"]
        assert event["hub"]["via"] == "callback"
        assert event["hub"]["labels"] == {"floor": "1"}
        assert event["hub"]["captured_at"] is not None
        assert event["hub"]["service"] == "object-detection"
        assert event["hub"]["sequence"] is None
    assert len({event["hub"]["id"] for event in events}) == len(events)
    worker = hub.camera("lobby")
    assert worker.total("frames_unanswered_total") == 0
    assert worker.total("results_received_total") == 0
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

        def summary() -> dict[str, Any]:
            document: dict[str, Any] = client.get("/api/v1/cameras/lobby").raise_for_status().json()
            return document

        # The worker reports one count and the gateway the other, each once a second, so wait for both.
        hub.wait_until(lambda: min(summary()["answered"], summary()["results_published"]) >= 10)
        shown = summary()
        text = client.get("/metrics").text
    assert shown["answered"] >= 10
    assert shown["unanswered"] == {}
    assert shown["results_received"] >= shown["results_published"] >= 10
    assert shown["round_trip_s"] is None or shown["round_trip_s"]["p50"] < 5
    assert shown["last_result_at"] is not None
    assert 'nvision_hub_results_published_total{site="test",camera="lobby",via="callback"}' in text
    assert hub.stop() == 0
    assert TOKEN not in hub.log()


def test_every_callback_becomes_an_event(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway(callback_token=TOKEN)
    one.camera("lobby")
    frame_id = new_id()
    detection = {
        "name": "person",
        "parent": "human",
        "confidence": 0.9,
        "bounding_box": {"left": 1, "top": 2, "right": 3, "bottom": 4},
        "cropped_image": "",
    }
    posted: list[dict[str, Any]] = [
        {"service_id": "s", "source_id": "lobby", "frame_id": frame_id, "detected_objects": [detection]},
        {"service_id": "s", "detected_objects": [detection]},  # a client may omit the ids
        {"service_id": "s", "source_id": "elsewhere", "frame_id": "7", "detected_objects": [], "detected_faces": []},
    ]
    with one.client() as client:
        for result in posted:
            answer = client.post(f"/callback/{TOKEN}", json=result)
            assert (answer.status_code, answer.content) == (204, b"")
        one.wait_for(lambda: _published(one) == 3)
        metrics = client.get("/metrics").text
    with redis.Redis.from_url(one.settings.stream.url) as broker:
        entries: Any = broker.xrange("nvision:results")
    events = [json.loads(fields[b"event"]) for _, fields in entries]
    assert [event["hub"]["camera"] for event in events] == ["lobby", "unknown", "unknown"]
    assert [event["detected_objects"] for event in events] == [[detection], [detection], []]
    assert events[0]["hub"]["id"] == frame_id
    assert len({event["hub"]["id"] for event in events}) == 3
    one.wait_for(lambda: bool(one.forwarded(FramesAnswered)))
    ((target, answered),) = one.forwarded(FramesAnswered)
    assert target == "camera:lobby"
    found = PostedDetection(name="person", parent="human", confidence=0.9, box=(1, 2, 3, 4))
    assert [(frame.frame_id, frame.detections) for frame in answered.frames] == [(frame_id, (found,))]
    assert "nvision_hub_build_info" in metrics


def _published(one: SupervisedGateway) -> float:
    return one.statuses[-1].metrics.total(catalogue.RESULTS_PUBLISHED_TOTAL)
