"""The service in trouble: cameras through a real hub to recording services that die, refuse and talk rubbish."""

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
from tests.support.recorder import KEY, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FPS: Final = 5.0
BEHAVIOURS: Final[dict[str, dict[str, Any]]] = {  # of each camera's own service
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
    elsewhere: Recorder  # where the redirect leads


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("uplink")
    camera = HttpCamera()

    def serve(name: str, behaviour: dict[str, Any]) -> Recorder:
        (folder / name).mkdir()
        service = Recorder(folder=folder / name, behaviour=behaviour)
        service.start()
        return service

    elsewhere = serve("elsewhere", {})
    target = f"{elsewhere.url}/v1/object-detection"
    running = {
        name: serve(name, {**behaviour, "headers": [["Location", target]]} if name == "moved" else behaviour)
        for name, behaviour in BEHAVIOURS.items()
    }
    cameras = [
        {"id": name, "url": camera.url(), "fps": FPS, "nvision": {"url": service.url, "streaming_key": KEY}}
        for name, service in running.items()
    ]
    write(folder, cameras, elsewhere)
    hub = Hub(folder=folder)
    try:
        hub.start()
        yield Services(hub=hub, services=running, elsewhere=elsewhere)
    finally:
        end(hub)
        for service in (*running.values(), elsewhere):
            service.kill()
        camera.close()


@pytest.mark.long
def test_a_service_that_dies_and_returns_is_streamed_to_again(services: Services) -> None:
    hub, service = services.hub, services.services["killed"]
    hub.wait_for_state("killed", "streaming")
    hub.wait_for_results("killed", 5)
    service.kill()
    gone_at = hub.wait_for_state("killed", "connecting", since=time.monotonic())
    assert "check nvision.url" in (hub.camera("killed").error or "") or "ended the stream" in (
        hub.camera("killed").error or ""
    )
    hub.wait_until(lambda: hub.camera("killed").total("frames_dropped_total") >= 3)  # told, not silent
    sent = len(service.received())
    service.start()
    hub.wait_for_state("killed", "streaming", since=gone_at)
    records = service.wait_for(sent + 10)
    names = [record.frame_id for record in records]
    assert len(set(names)) == len(names)
    fresh = records[sent]
    assert fresh.at - (fresh.created - (time.time() - time.monotonic())) < 2 / FPS  # the newest picture, no backlog
    assert hub.camera("killed").restarts == 0


@pytest.mark.parametrize(
    ("camera", "sentence"),
    [
        ("refused", "refused the key; correct nvision.streaming_key"),
        ("policy", "check nvision.streaming_key and the account"),
        ("moved", "set nvision.url to the final address"),
    ],
)
def test_a_service_that_will_not_have_us_is_asked_once(services: Services, camera: str, sentence: str) -> None:
    services.hub.wait_for_state(camera, "auth_failed")
    assert sentence in (services.hub.camera(camera).error or "")
    assert len(services.services[camera].handshakes()) == 1
    assert KEY not in services.hub.log()


def test_a_redirect_never_shows_the_key_to_another_host(services: Services) -> None:
    services.hub.wait_for_state("moved", "auth_failed")
    assert services.elsewhere.handshakes() == []


def test_a_busy_service_is_given_the_time_it_asks_for(services: Services) -> None:
    busy = services.services["busy"]
    services.hub.wait_until(lambda: len(busy.handshakes()) >= 2)
    first, second = busy.handshakes()[:2]
    assert 3.0 <= second.at - first.at < 6.0


@pytest.mark.parametrize(
    ("camera", "reason"), [("garbage", "unreadable"), ("text", "unreadable"), ("unknown", "unknown_frame")]
)
def test_rubbish_is_counted_and_the_stream_goes_on(services: Services, camera: str, reason: str) -> None:
    metric = f"results_lost_total{{reason={reason}}}"
    services.hub.wait_until(lambda: services.hub.camera(camera).metrics.get(metric, 0) >= 10)
    now = services.hub.camera(camera)
    assert (now.state, now.restarts) == ("streaming", 0)
    assert services.hub.events(camera) == []


def test_an_answer_without_ids_belongs_to_the_oldest_picture(services: Services) -> None:
    services.hub.wait_for_results("nameless", 5)
    sent = [record.frame_id for record in services.services["nameless"].received()]
    events = services.hub.events("nameless")
    assert [event["frame_id"] for event in events] == sent[: len(events)]
    assert {event["source_id"] for event in events} == {"nameless"}


def test_no_event_is_anything_but_json(services: Services) -> None:
    """NaN is no JSON; a service that says it has said nothing that can be passed on."""

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} in an event")

    services.hub.wait_until(lambda: services.hub.camera("not-a-number").total("results_received_total") >= 5)
    with services.hub.redis() as client:
        entries: Any = client.xrange("nvision:results")
    for _, fields in entries:
        json.loads(fields["event"], parse_constant=refuse)
    assert services.hub.camera("not-a-number").restarts == 0


def test_names_without_end_cost_nobody_anything(services: Services) -> None:
    services.hub.wait_for_results("chatty", 10)
    now = services.hub.camera("chatty")
    assert (now.state, now.restarts) == ("streaming", 0)
    assert len([name for name in now.metrics if name.startswith("detections_total")]) <= 300


def test_where_answers_go_to_a_callback_nothing_is_waited_for(services: Services) -> None:
    records = services.services["callback"].wait_for(25)
    now = services.hub.camera("callback")
    assert now.state == "streaming"
    assert now.total("results_lost_total") == 0
    assert (len(records) - 1) / (records[-1].at - records[0].at) == pytest.approx(FPS, rel=0.15)


def test_no_camera_costs_its_process(services: Services) -> None:
    assert {services.hub.camera(name).restarts for name in BEHAVIOURS} == {0}


@pytest.mark.long
@pytest.mark.parametrize("pictures", [2, 15])
def test_a_stop_loses_no_result_that_is_on_its_way(
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
    http_camera: Callable[..., HttpCamera],
    pictures: int,
) -> None:
    """Answers take a second; at the stop some are due, and even the very first may be."""
    service = recorder(latency_s=1.0)
    hub = start_hub([{"id": "lobby", "url": http_camera().url(), "fps": FPS}], service)
    client = hub.redis()
    listening: Any = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    listening.subscribe("nvision:results:lobby")
    heard: list[str] = []

    def listen() -> None:
        with contextlib.suppress(redis.ConnectionError):  # the broker has ended, last of all
            heard.extend(json.loads(message["data"])["frame_id"] for message in listening.listen())

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    service.wait_for(pictures)
    assert hub.stop() == 0
    listener.join(25)
    listening.close()
    client.close()
    assert heard == [record.frame_id for record in service.received()]
    assert len(heard) >= pictures
