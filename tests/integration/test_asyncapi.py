"""docs/asyncapi.yaml: right by its own rules, and true of what a real hub tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub import __version__
from nvision_hub.status import CameraState
from tests.support import asyncapi

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hub import Hub

NOBODY = {"id": "nobody", "url": "rtsp://127.0.0.1:9/stream1", "fps": 1}


def test_the_reference_parser_finds_nothing_wrong() -> None:
    assert asyncapi.diagnostics() == []


def test_it_knows_the_version_and_every_state() -> None:
    document = asyncapi.document()
    assert document["info"]["version"] == __version__
    assert document["components"]["schemas"]["state"]["enum"] == [str(state) for state in CameraState]


def test_its_examples_are_what_they_are_examples_of() -> None:
    for name, message in asyncapi.document()["components"]["messages"].items():
        for example in message.get("examples", ()):
            asyncapi.check({"result": "event"}.get(name, name), example["payload"])


def test_a_key_that_it_does_not_name_is_noticed() -> None:
    (example,) = asyncapi.document()["components"]["messages"]["result"]["examples"]
    event = json.loads(json.dumps(example["payload"]))
    event["hub"]["more"] = 1
    with pytest.raises(AssertionError, match="more"):
        asyncapi.check("event", event)


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
    for event in told["street"] + told["crossing"]:
        asyncapi.check("event", event)
    for news in told["news"]:
        asyncapi.check({"camera_state": "cameraState"}[news["kind"]], news)
    for _, fields in entries:
        asyncapi.check("streamEntry", fields)
        asyncapi.check("event", json.loads(fields["event"]))
    assert all("detected_faces" in event and "raw_data" in event for event in told["crossing"])


def has_detection(told: list[dict[str, Any]]) -> bool:
    return any(event["detected_objects"] for event in told)


def has_face(told: list[dict[str, Any]]) -> bool:
    return any("cropped_image" in face for event in told for face in event["detected_faces"])
