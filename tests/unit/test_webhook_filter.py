"""A webhook's filter by event, camera, class, zone and confidence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.broker.webhook_queue import Delivery
from nvision_hub.nvision import result_events
from nvision_hub.tracking.changes import Change, ChangeType
from nvision_hub.tracking.cloud_events import cloud_event
from tests.support import track_events
from tests.support.dispatching import event

EVERYTHING = WebhookFilter()


def body(given: dict[str, Any], **chosen: Any) -> dict[str, Any] | None:
    found = WebhookFilter.of(chosen).apply("results", given["hub"]["camera"], result_events.encode(given))
    return None if found is None else json.loads(found.body)


def names(given: dict[str, Any] | None, key: str = "detected_objects") -> list[str] | None:
    return None if given is None else [each["name"] for each in given[key]]


def test_without_criteria_every_result_passes_byte_for_byte() -> None:
    for given in (event(1, ("person", 0.9), ("car", 0.1)), event(2), event(3, ("face", 0.5), faces=True)):
        payload = json.dumps(given, indent=1).encode()
        found = EVERYTHING.apply("results", "lobby", payload)
        assert found is not None
        assert (found.id, found.body) == (given["hub"]["id"], payload)


def test_only_matching_detections_remain() -> None:
    given = event(1, ("person", 0.9), ("car", 0.9), ("person", 0.3))
    assert names(body(given, classes=["person"])) == ["person", "person"]
    assert names(body(given, min_confidence=0.9)) == ["person", "car"]
    assert names(body(given, classes=["person"], min_confidence=0.5)) == ["person"]
    assert body(given, classes=["dog"]) is None
    assert body(given, min_confidence=0.95) is None
    assert body(event(2), min_confidence=0.1) is None
    assert body(event(2), min_confidence=0) is not None
    kept = body(given, classes=["car"])
    assert kept is not None
    assert {**kept, "detected_objects": given["detected_objects"]} == given, "only the detections may change"


def test_a_result_that_matches_completely_keeps_its_bytes() -> None:
    payload = json.dumps(event(1, ("person", 0.9)), indent=1).encode()
    found = WebhookFilter.of({"classes": ["person"]}).apply("results", "lobby", payload)
    assert found is not None
    assert found.body == payload


def test_faces_are_filtered_like_objects() -> None:
    given = event(1, ("face", 0.9), ("face", 0.2), faces=True)
    kept = body(given, min_confidence=0.5)
    assert names(kept, "detected_faces") == ["face"]
    assert names(kept) == []
    assert body(given, classes=["person"]) is None


def test_an_event_of_another_camera_is_rejected() -> None:
    assert body(event(1, camera="lobby"), cameras=["lobby", "gate"]) is not None
    assert body(event(1, camera="yard"), cameras=["lobby", "gate"]) is None


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"null", b"{}", b'{"hub": {}}', b'{"hub": {"id": 1}}', b"\xff", b"[" * 100_000,
     b'{"hub": {"id": "a"}, "detected_objects": [1]}', b'{"hub": {"id": "a"}, "detected_objects": [{}]}'],
)  # fmt: skip
def test_a_payload_that_is_not_an_event_raises(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not an event of the hub"):
        WebhookFilter.of({"classes": ["person"]}).apply("results", "lobby", payload)


def test_a_changed_event_with_an_infinite_number_is_rejected() -> None:
    payload = result_events.encode(event(1, ("person", 0.9), ("car", 0.9))).replace(b'"hub":', b'"pad":1e999,"hub":')
    with pytest.raises(ValueError, match="not JSON compliant"):
        WebhookFilter.of({"classes": ["person"]}).apply("results", "lobby", payload)


@pytest.mark.parametrize("strange", ["a.b", "a\r\nx-header: 1", "ä", "", "x" * 200])
def test_an_id_unfit_for_a_header_is_replaced_consistently(strange: str) -> None:
    given = event(1)
    given["hub"]["id"] = strange
    first, second = (EVERYTHING.apply("results", "lobby", result_events.encode(given)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.id == second.id
    assert first.id.replace("-", "").isalnum()
    assert len(first.id) == 36


def passes(payload: dict[str, Any], **chosen: Any) -> bool:
    """Return whether an event of a track passes. Its body is never changed."""
    body = result_events.encode(payload)
    found = WebhookFilter.of(chosen).apply("tracks", payload["data"]["track"]["camera"], body)
    assert found is None or (found.id, found.body, found.is_cloud_event) == (payload["id"], body, True)
    return found is not None


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"events": ["result"]}, False),
        ({"events": ["track.updated", "zone.left"]}, False),
        ({"events": ["result", "zone.entered"]}, True),
        ({"events": ["zone.entered"], "zones": ["bay", "yard"]}, True),
        ({"events": ["zone.entered"], "zones": ["yard"]}, False),
        ({"events": ["zone.entered"], "classes": ["person"]}, True),
        ({"events": ["zone.entered"], "classes": ["car"]}, False),
        ({"events": ["zone.entered"], "cameras": ["dock"]}, True),
        ({"events": ["zone.entered"], "cameras": ["lobby"]}, False),
        ({"events": ["zone.entered"], "min_confidence": 0.875}, True),
        ({"events": ["zone.entered"], "min_confidence": 0.9}, False),
    ],
)
def test_events_of_tracks_are_filtered(chosen: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - a parameter
    change = Change(type=ChangeType.ZONE_ENTERED, at=track_events.NOW, track=track_events.STATE, zone="bay")
    assert passes(cloud_event(change, track_events.ORIGIN), **chosen) is expected


def test_an_end_passes_if_a_beginning_has_passed() -> None:
    wanted = WebhookFilter.of(
        {"events": ["zone.entered", "zone.left", "track.ended"], "classes": ["person"], "min_confidence": 0.5}
    )

    def apply(change_type: ChangeType, begun: tuple[str, ...], zone: str | None = None, **changes: Any) -> Any:
        track = replace(track_events.STATE, **changes)
        payload = cloud_event(
            Change(type=change_type, at=track_events.NOW, track=track, zone=zone), track_events.ORIGIN
        )
        return wanted.apply("tracks", "dock", result_events.encode(payload), begun)

    entered = apply(ChangeType.ZONE_ENTERED, (), "bay")
    whole, stay = entered.begins
    for changes in ({"class_name": "car"}, {"confidence": 0.25}):
        left = apply(ChangeType.ZONE_LEFT, entered.begins, "bay", **changes)
        assert (left.begins, left.ends) == ((whole,), stay)
        assert apply(ChangeType.ENDED, entered.begins, **changes).ends == whole
        assert apply(ChangeType.ZONE_LEFT, (whole,), "yard", **changes) is None, "another zone"
        assert apply(ChangeType.ENDED, (), **changes) is None, "the webhook knows nothing of this track"
        assert apply(ChangeType.ZONE_ENTERED, entered.begins, "bay", **changes) is None, "not an end"


def test_zones_do_not_restrict_other_events() -> None:
    change = Change(
        type=ChangeType.LINE_CROSSED, at=track_events.NOW, track=track_events.STATE, line="gate", direction="in"
    )
    assert passes(cloud_event(change, track_events.ORIGIN), events=["line.crossed"], zones=["yard"])


@pytest.mark.parametrize(
    ("events", "streams"),
    [
        (None, ("results",)),
        (["result"], ("results",)),
        (["track.ended"], ("tracks",)),
        (["track.ended", "result"], ("tracks", "results")),
    ],
)
def test_a_webhook_reads_only_the_streams_that_it_needs(events: list[str] | None, streams: tuple[str, ...]) -> None:
    wanted = WebhookFilter.of({"events": events})
    assert wanted.streams == streams
    assert all(wanted.only([stream]).streams == (stream,) for stream in wanted.streams)


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff", result_events.encode(event(1))])
def test_an_entry_of_the_track_stream_that_is_not_an_event_raises(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not an event of the hub"):
        WebhookFilter.of({"events": ["zone.entered"]}).apply("tracks", "dock", payload)


def test_an_entry_of_the_result_stream_that_is_a_track_event_raises() -> None:
    with pytest.raises(ValueError, match="not an event of the hub"):
        EVERYTHING.apply("results", "dock", result_events.encode(track_events.event()))


def test_a_delivery_in_the_queue_keeps_its_kind() -> None:
    for payload in (event(1), track_events.event()):
        delivery = Delivery(id="x", body=result_events.encode(payload), is_cloud_event="specversion" in payload)
        assert Delivery.decode("x", delivery.encode()) == delivery
