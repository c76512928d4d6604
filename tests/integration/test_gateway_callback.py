"""Callbacks end to end: a real service that posts its results to a real hub, whose accounts of them balance."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
import redis

from nvision_hub.broker.embedded import claim_port
from nvision_hub.events import new_id
from tests.support.clips import ClipSpec
from tests.support.service import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.gateway import Overseen
    from tests.support.hub import Hub
    from tests.support.rtsp import GstCamera
    from tests.support.service import LocalService

CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=4)
TOKEN: Final = "canaryCallbackToken"  # of this test alone


@pytest.mark.slow
def test_results_come_by_callback_and_every_picture_is_answered(
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
    events = hub.events("lobby")
    assert len(events) >= 10
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
        shown: dict[str, Any] = client.get("/api/v1/cameras/lobby").json()
        text = client.get("/metrics").text
    assert shown["answered"] >= 10
    assert shown["unanswered"] == {}
    assert shown["results_received"] >= shown["results_published"] >= 10
    assert shown["round_trip_s"] is None or shown["round_trip_s"]["p50"] < 5
    assert shown["last_result_at"] is not None
    assert 'nvision_hub_results_published_total{site="test",camera="lobby",via="callback"}' in text
    assert hub.stop() == 0
    assert TOKEN not in hub.log()


def test_every_callback_becomes_an_event_whoever_sent_its_picture(overseen: Callable[..., Overseen]) -> None:
    one = overseen(callback_token=TOKEN)
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
        {"service_id": "s", "detected_objects": [detection]},  # as seen of clients that set no ids
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
    one.wait_for(lambda: any(ask.arguments.get("verb") == "answered" for ask in one.asks))
    (answered,) = (ask for ask in one.asks if ask.arguments.get("verb") == "answered")
    assert answered.arguments["target"] == "camera:lobby"
    assert [frame for frame, _ in answered.arguments["arguments"]["frames"]] == [frame_id]
    assert "nvision_hub_build_info" in metrics


def _published(one: Overseen) -> float:
    counters = one.statuses[-1].metrics["counters"]
    return float(sum(value for name, _, value in counters if name == "results_published_total"))
