"""Events of tracks in the form that a camera's worker publishes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from nvision_hub.nvision.result_events import EventOrigin, new_id
from nvision_hub.tracking.changes import Change, ChangeType, FrameRef, PathPoint, TrackState, ZoneVisit
from nvision_hub.tracking.cloud_events import stored_event
from nvision_hub.tracking.observation import ObjectBox

ORIGIN: Final = EventOrigin(site="head office", camera="dock", labels={"floor": "1"}, service=None)
NOW: Final = 1_700_000_000.25
STATE: Final = TrackState(
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
    visits=(ZoneVisit(zone="bay", entered_at=NOW, has_dwelled=True),),
    box=ObjectBox(10.0, 20.0, 110.0, 220.0),
    frame=FrameRef(id=new_id(NOW), at=NOW + 1, width=1280, height=720),
    path=(PathPoint(NOW, 0.25, 0.5), PathPoint(NOW + 1, 0.26, 0.5)),
)


def event(change_type: ChangeType = ChangeType.UPDATED, **changes: Any) -> dict[str, Any]:
    """Return an event of the track `STATE` with `changes`, in the form that the worker passes to its publisher."""
    return stored_event(Change(type=change_type, at=NOW + 1, track=replace(STATE, **changes)), ORIGIN)


def open_event() -> dict[str, Any]:
    """Return the event that starts another track."""
    return event(ChangeType.STARTED, id=new_id(NOW))
