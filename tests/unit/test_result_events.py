"""The result event has every key of the contract."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.nvision.nvision_pb2 import BoundingBox, NvisionRequest, ObjectDetection
from nvision_hub.nvision.result_events import EventOrigin, SentFrame, encode, new_id, result_event

if TYPE_CHECKING:
    from nvision_hub.config.value_types import ServiceName

AT = datetime(2026, 11, 22, 14, 0, 0, 120_000, UTC).timestamp()


def origin(service: ServiceName = "object-detection") -> EventOrigin:
    return EventOrigin(site="demo", camera="lobby", labels={"floor": "1"}, service=service)


def sent(**more: Any) -> SentFrame:
    known = {
        "frame_id": new_id(AT),
        "sequence": 4711,
        "captured_at": AT,
        "sent_at": AT + 0.025,
        "sent_mono": 1.0,
        "width": 1280,
        "height": 720,
        "jpeg_bytes": 70123,
    }
    return SentFrame(**{**known, **more})


PERSON = ObjectDetection(
    name="person",
    parent="human",
    confidence=0.91,
    bounding_box=BoundingBox(left=10, top=20, right=110, bottom=220),
)
PERSON_AS_JSON = {
    "name": "person",
    "parent": "human",
    "confidence": 0.91,
    "bounding_box": {"left": 10, "top": 20, "right": 110, "bottom": 220},
}


def test_an_event_is_the_nvision_result_plus_one_key() -> None:
    frame = sent()
    result = NvisionRequest(service_id="s1", source_id="lobby", frame_id=frame.frame_id, detected_objects=[PERSON])
    event = json.loads(encode(result_event(result, frame, origin(), received_at=AT + 0.15)))
    assert event == {
        "service_id": "s1",
        "source_id": "lobby",
        "frame_id": frame.frame_id,
        "detected_objects": [PERSON_AS_JSON],
        "hub": {
            "id": frame.frame_id,
            "site": "demo",
            "camera": "lobby",
            "labels": {"floor": "1"},
            "service": "object-detection",
            "via": "websocket",
            "captured_at": "2026-11-22T14:00:00.120Z",
            "sent_at": "2026-11-22T14:00:00.145Z",
            "received_at": "2026-11-22T14:00:00.270Z",
            "width": 1280,
            "height": 720,
            "jpeg_bytes": 70123,
            "sequence": 4711,
        },
    }
    assert list(event) == ["service_id", "source_id", "frame_id", "detected_objects", "hub"]


def test_an_empty_result_has_an_empty_list() -> None:
    event = result_event(NvisionRequest(), sent(captured_at=None), origin(), received_at=AT)
    assert event["detected_objects"] == []
    assert "detected_faces" not in event
    assert event["hub"]["captured_at"] is None
    assert event["source_id"] == "lobby", "a result without ids still belongs to the camera"
    assert event["frame_id"] == event["hub"]["id"]


def test_faces_have_a_separate_list_and_the_list_of_objects_is_empty() -> None:
    event = result_event(NvisionRequest(detected_faces=[PERSON]), sent(), origin("face-detection"), received_at=AT)
    assert (event["detected_objects"], event["detected_faces"]) == ([], [PERSON_AS_JSON])
    event = result_event(NvisionRequest(), sent(), origin("face-detection"), received_at=AT)
    assert (event["detected_objects"], event["detected_faces"]) == ([], [])


def test_images_travel_as_base64_under_nvisions_names() -> None:
    cropped = ObjectDetection(name="person", cropped_image=b"\xff\xd8\xff\xd9")
    event = result_event(
        NvisionRequest(raw_data=b"\xff\xd8\xff\xd9", detected_objects=[cropped]), sent(), origin(), received_at=AT
    )
    assert event["raw_data"] == event["detected_objects"][0]["cropped_image"] == "/9j/2Q=="


def test_json_is_utf8_without_spaces() -> None:
    assert encode({"name": "Tür", "list": [1, 2]}) == '{"name":"Tür","list":[1,2]}'.encode()


@given(at=st.floats(0, 2**37))
def test_an_id_is_a_uuid7_that_contains_its_time(at: float) -> None:
    made = UUID(new_id(at))
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == int(at * 1000)


@given(times=st.lists(st.integers(0, 2**47), min_size=2, unique=True))
def test_ids_sort_by_time(times: list[int]) -> None:
    ids = {at: new_id(at / 1000 + 0.0001) for at in times}
    assert sorted(ids.values()) == [ids[at] for at in sorted(times)]


def test_ids_of_one_time_differ_and_no_time_means_now() -> None:
    assert len({new_id(AT) for _ in range(10_000)}) == 10_000
    assert UUID(new_id()).int >> 80 == pytest.approx(time.time() * 1000, abs=1000)
