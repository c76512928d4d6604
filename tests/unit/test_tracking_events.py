"""Events of tracks are CloudEvents, and the state of an open track survives in its latest event."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.nvision.result_events import EventOrigin, encode, new_id
from nvision_hub.tracking.changes import Change, ChangeType, EndReason, FrameRef, PathPoint, TrackState
from nvision_hub.tracking.cloud_events import cloud_event, stored_track
from nvision_hub.tracking.observation import ObjectBox

ORIGIN = EventOrigin(site="head office", camera="dock", labels={"floor": "1"}, service=None)
NOW = 1_700_000_000.25
STATE = TrackState(
    id=new_id(NOW),
    class_name="person",
    parent="human",
    confidence=0.875,
    started_at=NOW,
    last_seen_at=NOW + 1,
    ended_at=None,
    end_reason=None,
    stationary=True,
    results=7,
    zones=("bay",),
    box=ObjectBox(10.0, 20.0, 110.0, 220.0),
    frame=FrameRef(id=new_id(NOW), at=NOW + 1, width=1280, height=720),
    path=(PathPoint(NOW, 0.25, 0.5), PathPoint(NOW + 1, 0.26, 0.5)),
)


def event(change_type: ChangeType = ChangeType.UPDATED, **changes: Any) -> dict[str, Any]:
    return cloud_event(Change(type=change_type, at=NOW + 1, track=replace(STATE, **changes)), ORIGIN)


def test_the_state_of_an_open_track_survives_in_its_event() -> None:
    assert stored_track(encode(event())) == STATE


def test_the_source_is_a_uri_reference() -> None:
    assert event()["source"] == "/nvision-hub/head%20office/dock"


def test_the_end_of_a_track_has_one_id() -> None:
    one, other = (
        event(ChangeType.ENDED, ended_at=NOW + 1, end_reason=reason) for reason in (EndReason.LOST, EndReason.STOPPED)
    )
    assert one["id"] == other["id"] != event()["id"]


@pytest.mark.parametrize(
    "damage",
    [
        {"width": 0},
        {"id": None},
        {"captured_at": "yesterday"},
    ],
)
def test_a_damaged_event_is_refused(damage: dict[str, object]) -> None:
    content = json.loads(encode(event()))
    content["data"]["frame"].update(damage)
    with pytest.raises(ValueError, match="validation error"):
        stored_track(json.dumps(content).encode())


JSON = st.recursive(st.none() | st.floats() | st.text(), st.lists)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        stored_track(payload)
