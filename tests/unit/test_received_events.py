"""Events from Redis, where another program may have written anything."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.nvision import received_events
from nvision_hub.nvision.received_events import ReceivedResult, ReceivedTrackEvent, parse_hub_event, parse_object
from nvision_hub.nvision.result_events import EventOrigin, callback_event

if TYPE_CHECKING:
    from collections.abc import Callable

BOX = {"left": 0, "top": 0.5, "right": 1, "bottom": 1}
NAMES = ["hub", "id", "kind", "name", "detected_objects"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner),
)


def encoded(**changes: Any) -> bytes:
    return json.dumps({"hub": {"id": "x"}, **changes}).encode()


def test_a_result_of_the_hub_is_accepted() -> None:
    found = {"name": "person", "parent": "human", "confidence": 1, "bounding_box": BOX, "cropped_image": "x" * 10_000}
    origin = EventOrigin(site="s", camera="c", labels={"floor": "1"}, service="face-detection")
    event = callback_event({"detected_faces": [found], "later": {"a": [1]}}, origin, received_at=1.0)
    result = ReceivedResult.parse(json.dumps(event).encode())
    assert (result.hub.id, result.detected_faces[0].name) == (event["hub"]["id"], "person")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1,2]",
        b"{}",
        b"\xff",
        b'{"hub": {"id": null}}',
        encoded(hub={"id": 1}),
        encoded(hub={"id": "x", "labels": {"a": 1}}),
        encoded(frame_id=1),
        encoded(detected_objects=None),
        encoded(detected_objects=[{"name": "a", "confidence": "1"}]),
        encoded(detected_objects=[{"name": "a", "confidence": True}]),
        encoded(detected_objects=[{"name": "a", "confidence": float("inf")}]),
        encoded(detected_objects=[{"name": "a", "confidence": 1, "bounding_box": {**BOX, "left": None}}]),
        encoded(later=float("nan")),
        encoded(later=float("-inf")),
        b"[" * 100_000,
    ],
)
def test_anything_else_is_rejected(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ReceivedResult.parse(data)


@pytest.mark.parametrize(
    "parse",
    [ReceivedResult.parse, ReceivedTrackEvent.parse, parse_hub_event, parse_object],
    ids=lambda it: it.__qualname__,
)
@pytest.mark.parametrize("start", [b"", b'{"NaN":', b'{"Infinity":'])
def test_deep_nesting_is_rejected(parse: Callable[[bytes], Any], start: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(start + b"[" * 50_000)


def test_a_name_may_contain_the_name_of_a_constant() -> None:
    assert ReceivedResult.parse(encoded(service_id="NaN Infinity")).service_id == "NaN Infinity"


def test_an_event_that_is_too_large_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received_events, "MAX_EVENT_BYTES", 100)
    with pytest.raises(ValueError, match="too large"):
        ReceivedResult.parse(encoded(pad="x" * 100))


def test_an_event_about_the_hub_is_small() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_hub_event(json.dumps({"kind": "loss", "error": "x" * 2**16}).encode())


def test_an_event_about_the_hub_has_a_kind_and_plain_values() -> None:
    event = {"id": "x", "kind": "loss", "camera": None, "count": 3, "rate": 0.5, "ok": True}
    assert parse_hub_event(json.dumps(event).encode()) == event
    for wrong in ({"id": "x"}, {"kind": 1}, {"kind": "loss", "camera": {}}, {"kind": "loss", "count": [1]}, [1, 2]):
        with pytest.raises(ValueError, match=r"."):
            parse_hub_event(json.dumps(wrong).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b"\xff",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
    ids=["empty", "list", "bytes", "NaN", "infinite", "surrogate", "nested"],
)
def test_an_object_that_cannot_be_encoded_again_is_rejected(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_object(data)
    assert parse_object(b'{"a": [1, 0.5, "\xc3\xa9", null]}') == {"a": [1, 0.5, "é", None]}


@given(JSON)
def test_no_content_causes_another_error(value: Any) -> None:
    for parse in (ReceivedResult.parse, ReceivedTrackEvent.parse, parse_hub_event, parse_object):
        with contextlib.suppress(ValueError):
            parse(json.dumps(value).encode())
