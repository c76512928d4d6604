"""docs/asyncapi.yaml: right by its own rules, and true of what a real hub tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import redis

from nvision_hub import __version__
from nvision_hub.events import new_id
from nvision_hub.status import CameraState
from tests.support import asyncapi
from tests.support.dispatching import PREFIX, event, webhook
from workers.webhooks.breaker import EndpointState
from workers.webhooks.schedule import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.dispatching import Dispatcher
    from tests.support.hub import Hub
    from tests.support.receiver import Receiver
    from tests.support.redis_server import DebianRedis

NEWS = {
    "camera_state": "cameraState",
    "webhook_state": "webhookState",
    "webhook_missed": "webhookMissed",
    "worker_restart": "workerRestart",
    "loss": "loss",
}
NOBODY = {"id": "nobody", "url": "rtsp://127.0.0.1:9/stream1", "fps": 1}


@pytest.mark.long
def test_the_reference_parser_finds_nothing_wrong() -> None:
    assert asyncapi.diagnostics() == []


def test_it_knows_the_version_and_every_state() -> None:
    document = asyncapi.document()
    assert document["info"]["version"] == __version__
    schemas = document["components"]["schemas"]
    assert schemas["state"]["enum"] == [str(state) for state in CameraState]
    assert schemas["endpointState"]["enum"] == [str(state) for state in EndpointState]


def test_its_examples_are_what_they_are_examples_of() -> None:
    for name, message in asyncapi.document()["components"]["messages"].items():
        for example in message.get("examples", ()):
            asyncapi.check({"result": "event"}.get(name, name), example["payload"])


def test_a_key_that_it_does_not_name_is_noticed() -> None:
    (example,) = asyncapi.document()["components"]["messages"]["result"]["examples"]
    told = json.loads(json.dumps(example["payload"]))
    told["hub"]["more"] = 1
    with pytest.raises(AssertionError, match="more"):
        asyncapi.check("event", told)


def test_what_a_hub_tells_is_what_it_says(start_hub: Callable[..., Hub]) -> None:
    faces = {"service": "face-detection", "output_cropped_image": True, "output_visualized_image": True}
    hub = start_hub(
        [
            {"id": "street", "url": "demo://street", "fps": 5, "labels": {"floor": "1"}},
            {"id": "crossing", "url": "demo://crossing", "fps": 2, "nvision": faces},
            NOBODY,
        ],
        None,
    )
    with hub.redis() as client:
        subscription: Any = client.pubsub()
        with subscription:
            subscription.psubscribe("nvision:results:*", "nvision:events")
            told: dict[str, list[Any]] = {"street": [], "crossing": [], "news": []}
            while not (all(told.values()) and has_face(told["crossing"]) and has_detection(told["street"])):
                message = subscription.get_message(timeout=30.0)
                assert message is not None, f"nothing came for 30 s; {told}"
                if message["type"] != "pmessage":
                    continue
                about = json.loads(message["data"])
                if message["channel"] == "nvision:events":
                    told["news"].append(about)
                else:
                    assert message["channel"] == f"nvision:results:{about['hub']['camera']}"
                    told[about["hub"]["camera"]].append(about)
        entries: Any = client.xrange("nvision:results", count=20)
    for result in told["street"] + told["crossing"]:
        asyncapi.check("event", result)
    for news in told["news"]:
        asyncapi.check(NEWS[news["kind"]], news)
    for _, fields in entries:
        asyncapi.check("streamEntry", fields)
        asyncapi.check("event", json.loads(fields["event"]))
    assert all("detected_faces" in result and "raw_data" in result for result in told["crossing"])


def has_detection(told: list[dict[str, Any]]) -> bool:
    return any(result["detected_objects"] for result in told)


def has_face(told: list[dict[str, Any]]) -> bool:
    return any("cropped_image" in face for result in told for face in result["detected_faces"])


@pytest.mark.long
def test_what_comes_by_callback_is_an_event_too(start_hub: Callable[..., Hub]) -> None:
    hub = start_hub(
        [NOBODY], None, gateway={"listen": "127.0.0.1:0", "callback_token": "a-token-of-sixteen-characters"}
    )
    hub.wait_until(lambda: bool((hub._members.get("gateway") or {}).get("status")))
    found = {
        "name": "tvmonitor",
        "parent": "electronic",
        "confidence": 0.9950141906738281,
        "bounding_box": {"left": 361, "top": 167, "right": 479, "bottom": 251},
        "cropped_image": "",
    }
    answer = {"service_id": "s", "detected_objects": [found]}
    posted = [
        answer,
        {**answer, "source_id": "", "frame_id": "", "raw_data": ""},
        {**answer, "source_id": "nobody", "frame_id": new_id(), "detected_faces": [found]},
        {**answer, "source_id": "somebody", "frame_id": "7"},
    ]
    url = f"{hub.addresses['gateway']}/callback/a-token-of-sixteen-characters"
    for body in posted:
        assert httpx2.post(url, json=body).status_code == 204
    hub.wait_until(lambda: len(hub.events()) == len(posted))
    results = hub.events()
    for result in results:
        asyncapi.check("event", result)
    assert [result["hub"]["camera"] for result in results] == ["unknown", "unknown", "nobody", "unknown"]


@pytest.mark.parametrize("status", [500, 410])
def test_what_becomes_of_a_webhook(
    status: int,
    debian_redis: Callable[..., DebianRedis],
    receiver: Callable[..., Receiver],
    dispatch: Callable[..., Dispatcher],
) -> None:
    server, it = debian_redis(), receiver(status=status)
    with redis.Redis.from_url(server.url, decode_responses=True) as client, client.pubsub() as heard:
        heard.subscribe(f"{PREFIX}:events")
        heard.get_message(timeout=10)
        it_all = dispatch(server.url, webhook("alarms", it.url()), pace=Pace(schedule_s=(0, 0.05), timeout_s=5.0))
        it_all.publish(event(1, ("person", 0.9)))
        if status == 500:
            it_all.wait_for_row(lambda row: row["dead"] == 1)
            ((_, letter),) = client.xrange(f"{PREFIX}:webhooks:dead")
            asyncapi.check("deadLetter", letter)
            json.loads(letter["event"])
        else:
            message = heard.get_message(timeout=30)
            asyncapi.check("webhookState", json.loads(message["data"]))
    headers = {name: value for name, value in it.deliveries()[0].headers.items() if name.startswith("webhook-")}
    asyncapi.check("webhookHeaders", headers)
