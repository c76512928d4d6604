"""Service faults: a real hub streams cameras to services that die, reject connections or send invalid results."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from tests.support.http_camera import HttpCamera
from tests.support.hub import Hub, end, write
from tests.support.patience import is_on_time
from tests.support.recorder import KEY, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FPS: Final = 5.0
pytestmark = pytest.mark.long

BEHAVIOURS: Final[dict[str, dict[str, Any]]] = {  # behavior of each camera's service
    "killed": {},
    "refused": {"status": 401},
    "busy": {"status": 503, "headers": [["Retry-After", "3"]]},
    "moved": {"status": 302},
    "policy": {"close_code": 1008},
    "garbage": {"answer": "garbage"},
    "text": {"answer": "text"},
    "unknown": {"answer": "unknown_frame"},
    "nameless": {"answer": "without_ids"},
    "not-a-number": {"answer": "not_a_number"},
    "chatty": {"answer": "many_names"},
    "callback": {"answer": "none"},
}


@dataclass(frozen=True, kw_only=True)
class Services:
    hub: Hub
    services: dict[str, Recorder]
    redirect_target: Recorder  # target of the redirect


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("uplink")
    camera = HttpCamera()

    def serve(name: str, behavior: dict[str, Any]) -> Recorder:
        (folder / name).mkdir()
        service = Recorder(folder=folder / name, behavior=behavior)
        service.start()
        return service

    redirect_target = serve("elsewhere", {})
    target = f"{redirect_target.url}/v1/object-detection"
    running = {
        name: serve(name, {**behavior, "headers": [["Location", target]]} if name == "moved" else behavior)
        for name, behavior in BEHAVIOURS.items()
    }
    cameras = [
        {"id": name, "url": camera.url(), "fps": FPS, "nvision": {"url": service.url, "streaming_key": KEY}}
        for name, service in running.items()
    ]
    write(folder, cameras, redirect_target)
    hub = Hub(folder=folder)
    try:
        hub.start()
        yield Services(hub=hub, services=running, redirect_target=redirect_target)
    finally:
        end(hub)
        for service in (*running.values(), redirect_target):
            service.kill()
        camera.close()


def test_streaming_resumes_after_a_service_restart(services: Services) -> None:
    hub, service = services.hub, services.services["killed"]
    hub.wait_for_state("killed", "streaming")
    hub.wait_for_results("killed", 5)
    service.kill()
    gone_at = hub.wait_for_state("killed", "connecting", since=time.monotonic())
    assert "check nvision.url" in (hub.camera("killed").error or "") or "closed the stream" in (
        hub.camera("killed").error or ""
    )
    hub.wait_until(lambda: hub.camera("killed").total("frames_dropped_total") >= 3)  # the outage is counted
    sent = len(service.received())
    restarted_at = time.time()
    service.start()
    hub.wait_for_state("killed", "streaming", since=gone_at)
    records = service.wait_for(sent + 10)
    names = [record.frame_id for record in records]
    assert len(set(names)) == len(names)
    assert records[sent].created > restarted_at - 1 / FPS, "the hub sends the newest frame, not a backlog"
    assert hub.camera("killed").restarts == 0


@pytest.mark.parametrize(
    ("camera", "sentence"),
    [
        ("refused", "refused the key; correct nvision.streaming_key"),
        ("policy", "check nvision.streaming_key and the account"),
        ("moved", "set nvision.url to the final address"),
    ],
)
def test_a_service_that_rejects_the_key_is_dialed_once(services: Services, camera: str, sentence: str) -> None:
    services.hub.wait_for_state(camera, "auth_failed")
    assert sentence in (services.hub.camera(camera).error or "")
    assert len(services.services[camera].handshakes()) == 1
    assert KEY not in services.hub.log()


def test_a_redirect_never_shows_the_key_to_another_host(services: Services) -> None:
    services.hub.wait_for_state("moved", "auth_failed")
    assert services.redirect_target.handshakes() == []


def test_the_retry_after_of_a_busy_service_is_respected(services: Services) -> None:
    busy = services.services["busy"]
    services.hub.wait_until(lambda: len(busy.handshakes()) >= 2)
    first, second = busy.handshakes()[:2]
    assert second.at - first.at >= 3.0
    assert is_on_time(second.at - first.at, 6.0)


@pytest.mark.parametrize(
    ("camera", "reason"), [("garbage", "unreadable"), ("text", "unreadable"), ("unknown", "unknown_frame")]
)
def test_invalid_results_are_counted_and_the_stream_continues(services: Services, camera: str, reason: str) -> None:
    metric = f"results_lost_total{{reason={reason}}}"
    services.hub.wait_until(lambda: services.hub.camera(camera).metrics.get(metric, 0) >= 10)
    now = services.hub.camera(camera)
    assert (now.state, now.restarts) == ("streaming", 0)
    assert services.hub.events(camera) == []


def test_a_result_without_ids_belongs_to_the_oldest_frame(services: Services) -> None:
    services.hub.wait_for_results("nameless", 5)
    events = services.hub.events("nameless")
    sent = [record.frame_id for record in services.services["nameless"].received()]  # read last: the camera streams on
    assert [event["frame_id"] for event in events] == sent[: len(events)]
    assert {event["source_id"] for event in events} == {"nameless"}


def test_every_event_is_valid_json(services: Services) -> None:
    """NaN is not valid JSON, so the hub must not publish a result with NaN."""

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} in an event")

    services.hub.wait_until(lambda: services.hub.camera("not-a-number").total("results_received_total") >= 5)
    with services.hub.redis() as client:
        entries: Any = client.xrange("nvision:results")
    for _, fields in entries:
        json.loads(fields["event"], parse_constant=refuse)
    assert services.hub.camera("not-a-number").restarts == 0


def test_any_number_of_detection_names_costs_no_memory(services: Services) -> None:
    services.hub.wait_for_results("chatty", 10)
    now = services.hub.camera("chatty")
    assert (now.state, now.restarts) == ("streaming", 0)
    assert len([name for name in now.metrics if name.startswith("detections_total")]) <= 300


def test_a_callback_service_needs_no_result_on_the_stream(services: Services) -> None:
    records = services.services["callback"].wait_for(25)
    now = services.hub.camera("callback")
    assert now.state == "streaming"
    assert now.total("results_lost_total") == 0
    # An uplink that waits for results sends a few frames and then replaces each waiting frame with a newer one.
    assert now.metrics.get("frames_dropped_total{reason=overwritten}", 0) <= 0.15 * len(records)


def test_no_fault_restarts_a_worker(services: Services) -> None:
    assert {services.hub.camera(name).restarts for name in BEHAVIOURS} == {0}


@pytest.mark.parametrize("frames", [2, 15])
def test_a_stop_loses_no_result_in_flight(
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
    http_camera: Callable[..., HttpCamera],
    frames: int,
) -> None:
    """Each result takes one second, so some results are pending at the stop, possibly even the first."""
    service = recorder(latency_s=1.0)
    hub = start_hub([{"id": "lobby", "url": http_camera().url(), "fps": FPS}], service)
    client = hub.redis()
    listening: Any = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    listening.subscribe("nvision:results:lobby")
    published: list[str] = []

    def listen() -> None:
        with contextlib.suppress(redis.ConnectionError):  # the broker ends last
            published.extend(json.loads(message["data"])["frame_id"] for message in listening.listen())

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    service.wait_for(frames)
    assert hub.stop() == 0
    listener.join(25)
    listening.close()
    client.close()
    assert published == [record.frame_id for record in service.received()]
    assert len(published) >= frames
