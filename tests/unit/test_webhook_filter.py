"""What of an event a webhook gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nvision_hub import events
from nvision_hub.broker.webhook_filter import WebhookFilter
from tests.support.dispatching import event

EVERYTHING = WebhookFilter()


def body(given: dict[str, Any], **chosen: Any) -> dict[str, Any] | None:
    found = WebhookFilter.of(chosen).apply(given["hub"]["camera"], events.encode(given))
    return None if found is None else json.loads(found.body)


def names(given: dict[str, Any] | None, key: str = "detected_objects") -> list[str] | None:
    return None if given is None else [each["name"] for each in given[key]]


def test_without_a_choice_every_result_is_wanted_byte_for_byte() -> None:
    for given in (event(1, ("person", 0.9), ("car", 0.1)), event(2), event(3, ("face", 0.5), faces=True)):
        payload = json.dumps(given, indent=1).encode()
        found = EVERYTHING.apply("lobby", payload)
        assert found is not None
        assert (found.id, found.body) == (given["hub"]["id"], payload)


def test_only_detections_that_match_are_in_it() -> None:
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
    assert {**kept, "detected_objects": given["detected_objects"]} == given, "nothing else of it changes"


def test_what_all_match_is_not_written_anew() -> None:
    payload = json.dumps(event(1, ("person", 0.9)), indent=1).encode()
    found = WebhookFilter.of({"classes": ["person"]}).apply("lobby", payload)
    assert found is not None
    assert found.body == payload


def test_faces_are_chosen_alike() -> None:
    given = event(1, ("face", 0.9), ("face", 0.2), faces=True)
    kept = body(given, min_confidence=0.5)
    assert names(kept, "detected_faces") == ["face"]
    assert names(kept) == []
    assert body(given, classes=["person"]) is None


def test_cameras() -> None:
    assert body(event(1, camera="lobby"), cameras=["lobby", "gate"]) is not None
    assert body(event(1, camera="yard"), cameras=["lobby", "gate"]) is None


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"null", b"{}", b'{"hub": {}}', b'{"hub": {"id": 1}}', b"\xff", b"[" * 100_000,
     b'{"hub": {"id": "a"}, "detected_objects": [1]}', b'{"hub": {"id": "a"}, "detected_objects": [{}]}'],
)  # fmt: skip
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no event of the hub"):
        WebhookFilter.of({"classes": ["person"]}).apply("lobby", payload)


@pytest.mark.parametrize("strange", ["a.b", "a\r\nx-header: 1", "ä", "", "x" * 200])
def test_an_id_that_no_header_may_hold_becomes_another_always_the_same(strange: str) -> None:
    given = event(1)
    given["hub"]["id"] = strange
    first, second = (EVERYTHING.apply("lobby", events.encode(given)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.id == second.id
    assert first.id.replace("-", "").isalnum()
    assert len(first.id) == 36
