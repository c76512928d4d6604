"""docs/asyncapi.yaml is valid and matches the messages of a real hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import redis

from nvision_hub import __version__
from nvision_hub.nvision.result_events import new_id
from nvision_hub.runtime.status import CameraState
from nvision_hub.tracking.changes import ChangeType, EndReason
from nvision_hub.tracking.cloud_events import TYPE_PREFIX
from tests.support import asyncapi
from tests.support.dispatching import PREFIX, event, webhook
from tests.support.patience import PATIENCE_S
from workers.webhooks.breaker import EndpointState
from workers.webhooks.settings import DeliveryLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.dispatching import Dispatcher
    from tests.support.hub import Hub
    from tests.support.receiver import Receiver
    from tests.support.redis_server import DebianRedis

EVENT_SCHEMAS = {
    "camera_state": "cameraState",
    "webhook_state": "webhookState",
    "webhook_missed": "webhookMissed",
    "worker_restart": "workerRestart",
    "loss": "loss",
}
ABSENT = {"id": "absent", "url": "rtsp://127.0.0.1:9/stream1", "fps": 1}


@pytest.mark.long
@pytest.mark.peer("API description", "AsyncAPI parser", "npm:tests/asyncapi:@asyncapi/parser")
def test_the_reference_parser_finds_no_errors() -> None:
    assert asyncapi.diagnostics() == []


def test_the_document_has_the_version_and_every_state() -> None:
    document = asyncapi.document()
    assert document["info"]["version"] == __version__
    schemas = document["components"]["schemas"]
    assert schemas["state"]["enum"] == [str(state) for state in CameraState]
    assert schemas["endpointState"]["enum"] == [str(state) for state in EndpointState]
    assert schemas["trackEventType"]["enum"] == [f"{TYPE_PREFIX}{each}" for each in ChangeType]
    assert schemas["endReason"]["enum"] == [*map(str, EndReason), None]


def test_the_examples_match_their_schemas() -> None:
    for name, message in asyncapi.document()["components"]["messages"].items():
        for example in message.get("examples", ()):
            asyncapi.check({"result": "event"}.get(name, name), example["payload"])


def test_a_key_missing_in_the_document_is_detected() -> None:
    (example,) = asyncapi.document()["components"]["messages"]["result"]["examples"]
    shown = json.loads(json.dumps(example["payload"]))
    shown["hub"]["more"] = 1
    with pytest.raises(AssertionError, match="more"):
        asyncapi.check("event", shown)


def test_messages_of_a_hub_match_the_document(start_hub: Callable[..., Hub]) -> None:
    faces = {"service": "face-detection", "output_cropped_image": True, "output_visualized_image": True}
    hub = start_hub(
        [
            {"id": "street", "url": "demo://street", "fps": 5, "labels": {"floor": "1"}},
            {"id": "crossing", "url": "demo://crossing", "fps": 2, "nvision": faces},
            ABSENT,
        ],
        None,
    )
    with hub.redis() as client:
        subscription: Any = client.pubsub()
        with subscription:
            subscription.psubscribe("nvision:results:*", "nvision:events")
            received: dict[str, list[Any]] = {"street": [], "crossing": [], "changes": []}
            while not (all(received.values()) and has_face(received["crossing"]) and has_detection(received["street"])):
                message = subscription.get_message(timeout=PATIENCE_S)
                assert message is not None, f"no message for 30 s; {received}"
                if message["type"] != "pmessage":
                    continue
                event = json.loads(message["data"])
                if message["channel"] == "nvision:events":
                    received["changes"].append(event)
                else:
                    assert message["channel"] == f"nvision:results:{event['hub']['camera']}"
                    received[event["hub"]["camera"]].append(event)
        entries: Any = client.xrange("nvision:results", count=20)
    for result in received["street"] + received["crossing"]:
        asyncapi.check("event", result)
    for change in received["changes"]:
        asyncapi.check(EVENT_SCHEMAS[change["kind"]], change)
    for _, fields in entries:
        asyncapi.check("streamEntry", fields)
        asyncapi.check("event", json.loads(fields["event"]))
    assert all("detected_faces" in result and "raw_data" in result for result in received["crossing"])


def has_detection(results: list[dict[str, Any]]) -> bool:
    return any(result["detected_objects"] for result in results)


def has_face(results: list[dict[str, Any]]) -> bool:
    return any("cropped_image" in face for result in results for face in result["detected_faces"])


@pytest.mark.long
def test_results_by_callback_match_the_document(start_hub: Callable[..., Hub]) -> None:
    hub = start_hub(
        [ABSENT], None, gateway={"listen": "127.0.0.1:0", "callback_token": "a-token-of-sixteen-characters"}
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
        {**answer, "source_id": "absent", "frame_id": new_id(), "detected_faces": [found]},
        {**answer, "source_id": "stranger", "frame_id": "7"},
    ]
    url = f"{hub.addresses['gateway']}/callback/a-token-of-sixteen-characters"
    for body in posted:
        assert httpx2.post(url, json=body).status_code == 204
    hub.wait_until(lambda: len(hub.events()) == len(posted))
    results = hub.events()
    for result in results:
        asyncapi.check("event", result)
    assert [result["hub"]["camera"] for result in results] == ["unknown", "unknown", "absent", "unknown"]


@pytest.mark.parametrize("status", [500, 410])
def test_webhook_events_match_the_document(
    status: int,
    debian_redis: Callable[..., DebianRedis],
    receiver: Callable[..., Receiver],
    dispatch: Callable[..., Dispatcher],
) -> None:
    server, it = debian_redis(), receiver(status=status)
    with redis.Redis.from_url(server.url, decode_responses=True) as client, client.pubsub() as subscription:
        subscription.subscribe(f"{PREFIX}:events")
        subscription.get_message(timeout=PATIENCE_S)
        it_all = dispatch(
            server.url, webhook("alarms", it.url()), limits=DeliveryLimits(schedule_s=(0, 0.05), timeout_s=5.0)
        )
        it_all.publish(event(1, ("person", 0.9)))
        if status == 500:
            it_all.wait_for_row(lambda row: row["dead"] == 1)
            ((_, letter),) = client.xrange(f"{PREFIX}:webhooks:dead")
            asyncapi.check("deadLetter", letter)
            json.loads(letter["event"])
        else:
            message = subscription.get_message(timeout=PATIENCE_S)
            asyncapi.check("webhookState", json.loads(message["data"]))
    headers = {name: value for name, value in it.deliveries()[0].headers.items() if name.startswith("webhook-")}
    asyncapi.check("webhookHeaders", headers)
