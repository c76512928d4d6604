"""Events of tracks are CloudEvents, and the state of an open track survives in its latest event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.broker.client import track_commands
from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.config.tracking_section import Tracking
from nvision_hub.nvision.result_events import EventOrigin, SentFrame, encode, new_id
from nvision_hub.runtime.messages import PostedDetection
from nvision_hub.tracking.changes import ChangeType, EndReason, ZoneVisit
from nvision_hub.tracking.cloud_events import end_events, posted_observation, stored_event, stored_track
from nvision_hub.tracking.tracker import Tracker
from tests.support.track_events import NOW, STATE, event

ORIGIN = EventOrigin(site="site", camera="dock", labels={}, service=None)


def test_the_state_of_an_open_track_survives_in_its_event() -> None:
    assert stored_track(encode(event())) == STATE


@given(
    confidence=st.one_of(st.floats(0.8, 1), st.floats(allow_nan=False)),
    left=st.floats(0, 1),
    width=st.one_of(st.floats(0.01, 0.3), st.floats(-1, 100)),
)
def test_each_track_that_starts_can_be_read_back(confidence: float, left: float, width: float) -> None:
    """For any result that the service posts. Otherwise, no worker could end the track of a killed worker."""
    box = (left, left, left + width, left + width)
    detection = PostedDetection(name="person", parent="human", confidence=confidence, box=box)
    tracker = Tracker(Tracking(), new_id)
    for number in range(3):
        at = NOW + number
        sent = SentFrame(
            frame_id=new_id(at), sequence=number, captured_at=at, sent_at=at, sent_mono=at, width=640, height=480,
            jpeg_bytes=0,
        )  # fmt: skip
        for change in tracker.update(posted_observation([detection], sent)):
            assert stored_track(encode(stored_event(change, ORIGIN))).id == change.track.id


def test_the_source_is_a_uri_reference() -> None:
    assert event()["source"] == "/nvision-hub/head%20office/dock"


def test_the_end_of_a_track_has_one_id() -> None:
    one, other = (
        event(ChangeType.ENDED, ended_at=NOW + 1, end_reason=reason) for reason in (EndReason.LOST, EndReason.STOPPED)
    )
    assert one["id"] == other["id"] != event()["id"]


def test_a_stored_track_leaves_its_zones_and_ends() -> None:
    """The events are the same at each call, and those of the worker."""
    visits = (
        ZoneVisit(zone="bay", entered_at=NOW - 2, has_dwelled=True),
        ZoneVisit(zone="gate", entered_at=None, has_dwelled=False),
    )
    payload = encode(event(visits=visits))
    bay, gate, end = end_events(payload, "dock", EndReason.REMOVED)
    assert [bay, gate, end] == end_events(payload, "dock", EndReason.REMOVED)
    assert end == event(ChangeType.ENDED, ended_at=NOW + 1, end_reason=EndReason.REMOVED, visits=())
    assert (bay["data"]["zone"], gate["data"]["zone"]) == (
        {"id": "bay", "dwell_s": 3.0},
        {"id": "gate", "dwell_s": None},
    )
    assert [each["data"]["track"]["zones"] for each in (bay, gate)] == [["gate"], []]
    assert len({each["id"] for each in (bay, gate, end)}) == 3


def test_visits_of_zones_are_stored_but_not_published() -> None:
    outgoing = OutgoingEvent(id="", camera="dock", payload=encode(event()), received_at=0.0)
    commands: list[tuple[Any, ...]] = [*track_commands([outgoing], prefix="nvision", max_entries=10)]
    publish, add, record = commands
    assert publish[:2] == ("PUBLISH", "nvision:tracks:dock")
    assert publish[2] == add[add.index("event") + 1]
    visits = event().pop("visits")
    assert json.loads(publish[2]) | {"visits": visits} == json.loads(outgoing.payload)
    assert b"has_dwelled" not in publish[2]
    assert record[:3] == ("HSET", "nvision:tracks:open:dock", STATE.id)
    assert stored_track(record[3]) == STATE


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
