"""Bodies posted to the callback endpoint: each is converted to an event or rejected, and none causes a crash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.nvision import result_events
from nvision_hub.nvision.result_events import EventOrigin, callback_event, id_time, new_id
from nvision_hub.runtime.messages import MAX_RECORD_BYTES, AnsweredFrame, Forward, encode
from workers.gateway.api.callback import MAX_DETECTIONS, messages, posted_detections, read_result
from workers.gateway.api.problem_details import ProblemError

LOBBY = EventOrigin(site="here", camera="lobby", labels={"floor": "1"}, service="object-detection")
NOW = 1_800_000_000.25
PERSON = {
    "name": "person",
    "parent": "human",
    "confidence": 0.91,
    "bounding_box": {"left": 10, "top": 20, "right": 110, "bottom": 220},
    "cropped_image": "",
}


def body(**fields: Any) -> bytes:
    return json.dumps({"service_id": "s", "detected_objects": [PERSON], **fields}).encode()


def test_a_result_of_an_own_frame_has_its_capture_time() -> None:
    frame_id = new_id(NOW - 1.125)
    event = callback_event(read_result(body(source_id="lobby", frame_id=frame_id)), LOBBY, received_at=NOW)
    assert event["detected_objects"] == [PERSON]
    assert event["hub"] == {
        "id": frame_id,
        "site": "here",
        "camera": "lobby",
        "labels": {"floor": "1"},
        "service": "object-detection",
        "via": "callback",
        "captured_at": "2027-01-15T07:59:59.125Z",
        "sent_at": None,
        "received_at": "2027-01-15T08:00:00.250Z",
        "width": None,
        "height": None,
        "jpeg_bytes": None,
        "sequence": None,
    }


@pytest.mark.parametrize(
    "frame_id",
    [
        "",
        "7",
        "0199",
        None,
        "00000000-0000-4000-8000-000000000000",
        "x" * 10_000,
        "019A0B1C-2D3E-7F40-8A5B-6C7D8E9F0A1B",
    ],
)
def test_a_result_of_a_foreign_frame_gets_a_new_id(frame_id: str | None) -> None:
    event = callback_event(read_result(body(frame_id=frame_id)), LOBBY, received_at=NOW)
    made = id_time(event["hub"]["id"])
    assert made == pytest.approx(NOW, abs=0.002)
    assert event["hub"]["captured_at"] is None
    assert event["frame_id"] == (frame_id or "")
    assert (event["source_id"], event["service_id"]) == ("", "s")


def test_a_capture_time_in_the_future_is_ignored() -> None:
    event = callback_event({"detected_objects": [], "frame_id": new_id(NOW + 3600)}, LOBBY, received_at=NOW)
    assert event["hub"]["captured_at"] is None
    far = "ffffffff-ffff-7fff-bfff-ffffffffffff"
    assert callback_event({"frame_id": far}, LOBBY, received_at=NOW)["hub"]["captured_at"] is None


def test_the_hub_key_cannot_be_posted() -> None:
    event = callback_event(read_result(body(hub={"id": "forged", "site": "elsewhere"})), LOBBY, received_at=NOW)
    assert event["hub"]["site"] == "here"


def test_a_null_list_becomes_empty_and_only_face_results_have_faces() -> None:
    faces = EventOrigin(site="here", camera="gate", labels={}, service="face-detection")
    event = callback_event(read_result(b'{"detected_objects": null, "detected_faces": []}'), faces, received_at=NOW)
    assert (event["detected_objects"], event["detected_faces"]) == ([], [])
    assert "detected_faces" not in callback_event(read_result(body()), LOBBY, received_at=NOW)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON",
        b"[]",
        b"null",
        b"{}",
        b'{"detected_objects": null}',
        b'{"detected_objects": {}}',
        b'{"detected_objects": [5]}',
        b'{"detected_objects": [{"name": "x"}]}',
        b'{"detected_objects": [], "source_id": 5}',
        b'{"detected_objects": [], "frame_id": ["x"]}',
        b'{"detected_objects": [], "x": NaN}',
        b'{"detected_objects": [], "x": -Infinity}',
        b'{"detected_objects": [], "x": 1e999}',
        b'{"detected_objects": [], "x": "\\ud800"}',
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"detected_objects": ' + b"[" * 200_000,
        b'{"detected_objects": [], "x": ' + b"9" * 10_000 + b"}",
        body(detected_objects=[{**PERSON, "confidence": "high"}]),
        body(detected_objects=[{**PERSON, "confidence": True}]),
        body(detected_objects=[{**PERSON, "confidence": 10**400}]),
        body(detected_objects=[{**PERSON, "bounding_box": {"left": 1}}]),
        body(detected_objects=[{**PERSON, "bounding_box": None}]),
        body(detected_faces=[{**PERSON, "name": None}]),
    ],
)  # fmt: skip
def test_a_body_that_is_not_a_result_is_rejected(data: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        read_result(data)
    assert refused.value.status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)


@given(
    st.fixed_dictionaries(
        {"detected_objects": JSON | st.lists(st.just(PERSON), max_size=3)},
        optional={"source_id": JSON, "frame_id": JSON, "service_id": JSON, "hub": JSON, "detected_faces": JSON},
    )
    | JSON
)
def test_any_body_is_rejected_or_becomes_valid_json(posted: Any) -> None:
    try:
        result = read_result(json.dumps(posted).encode())
    except ProblemError:
        return
    event = json.loads(result_events.encode(callback_event(result, LOBBY, received_at=NOW)), parse_constant=pytest.fail)
    assert isinstance(event["detected_objects"], list)
    assert event["hub"]["camera"] == "lobby"


@pytest.mark.parametrize(("frames", "detections"), [(1000, 0), (10, 5000), (300, 3)])
def test_the_worker_receives_all_frames_in_messages_that_fit_into_the_pipe(frames: int, detections: int) -> None:
    longest = {**PERSON, "name": "\0" * 100, "parent": "\0" * 100}
    posted = posted_detections([longest] * detections)
    answered = [AnsweredFrame(frame_id=new_id(), at=123456.789012345, detections=posted) for _ in range(frames)]
    sent = list(messages(answered))
    assert [frame for message in sent for frame in message.frames] == answered
    assert max(len(encode(Forward(target="camera:" + "x" * 63, message=each))) for each in sent) <= MAX_RECORD_BYTES


def test_the_most_confident_detections_are_followed() -> None:
    detections = [{**PERSON, "confidence": number / 1000} for number in range(1000)]
    found = posted_detections(detections)
    assert [each.confidence for each in found] == [number / 1000 for number in range(999, 999 - MAX_DETECTIONS, -1)]
    assert posted_detections([{**PERSON, "parent": None}])[0].parent == ""
