"""Events of tracks in the format CloudEvents 1.0 (structured JSON), and the parser that restores tracks.

All events have the same structure of `data`, so a consumer needs only one schema. The `subject` is the track's id. It
keeps the events of one object in order. A resent event keeps its id.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote
from uuid import UUID, uuid5

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from nvision_hub.nvision.result_events import EventOrigin, new_id
from nvision_hub.timestamps import iso_utc
from nvision_hub.tracking.changes import STORED_VISITS, Change, ChangeType, FrameRef, PathPoint, TrackState, ZoneVisit
from nvision_hub.tracking.observation import DetectedObject, ObjectBox, Observation
from nvision_hub.tracking.open_track import MAX_PATH_POINTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvision_hub.nvision.nvision_pb2 import NvisionRequest
    from nvision_hub.nvision.result_events import SentFrame
    from nvision_hub.runtime.messages import PostedDetection
    from nvision_hub.tracking.changes import EndReason

TYPE_PREFIX: Final = "nvision."
ENDED_TYPE: Final = f"{TYPE_PREFIX}{ChangeType.ENDED}"
DATA_SCHEMA: Final = "urn:nvision-hub:track:1"
MAX_NAME_CHARACTERS: Final = 64  # the service chooses the names of classes
MAX_COORDINATE: Final = 1e6  # in pixels
# Limits of stored tracks. A track may seem to have started before 1970 if the clock was set back later.
MIN_STORED_TIME: Final = datetime(1900, 1, 1, tzinfo=UTC)
MAX_STORED_TIME: Final = datetime(2200, 1, 1, tzinfo=UTC)
MAX_STORED_RESULTS: Final = 2**53
MAX_STORED_COORDINATE: Final = 2**31  # the service reports boxes as 32-bit integers
MIN_STORED_SIZE: Final = 0.05  # in pixels; an event has one decimal place
MIN_SIZE: Final = 0.2  # minimum size of a detection in pixels; smaller boxes could become empty in an event
MAX_FRAME_SIZE: Final = 2**16 - 1  # maximum width and height of a JPEG


def observation(result: NvisionRequest, sent: SentFrame) -> Observation:
    """Convert a result to the tracker's input, without impossible detections.

    If the capture time is unknown, use the time of sending instead.
    """
    return _observation(
        sent,
        tuple(
            DetectedObject(
                name=each.name[:MAX_NAME_CHARACTERS],
                parent=each.parent[:MAX_NAME_CHARACTERS],
                confidence=each.confidence,
                box=ObjectBox(
                    each.bounding_box.left, each.bounding_box.top, each.bounding_box.right, each.bounding_box.bottom
                ),
            )
            for each in (*result.detected_objects, *result.detected_faces)
        ),
    )


def posted_observation(detections: Iterable[PostedDetection], sent: SentFrame) -> Observation:
    """Convert a result that arrived by callback to the tracker's input, without impossible detections."""
    return _observation(
        sent,
        tuple(
            DetectedObject(name=each.name, parent=each.parent, confidence=each.confidence, box=ObjectBox(*each.box))
            for each in detections
            if max(map(abs, each.box)) <= MAX_COORDINATE
        ),
    )


def _observation(sent: SentFrame, detections: tuple[DetectedObject, ...]) -> Observation:
    return Observation(
        frame_id=sent.frame_id,
        at=sent.sent_at if sent.captured_at is None else sent.captured_at,
        mono=sent.sent_mono if sent.captured_at is None else sent.captured_mono,
        width=sent.width,
        height=sent.height,
        detections=tuple(each for each in detections if _is_possible(each)),
    )


def _is_possible(detection: DetectedObject) -> bool:
    """Return whether events with this detection can be stored and read back."""
    box = detection.box
    return 0 <= detection.confidence <= 1 and min(box.right - box.left, box.bottom - box.top) >= MIN_SIZE


def cloud_event(change: Change, origin: EventOrigin) -> dict[str, Any]:
    """Return the event of one change. A track ends only once, so its ended event derives its id from the track's id."""
    track = change.track
    ended = change.type is ChangeType.ENDED
    return {
        "specversion": "1.0",
        "id": str(uuid5(UUID(track.id), "ended")) if ended else new_id(change.at),
        "source": f"/nvision-hub/{quote(origin.site, safe='')}/{quote(origin.camera, safe='')}",
        "type": f"{TYPE_PREFIX}{change.type}",
        "subject": track.id,
        "dataschema": DATA_SCHEMA,
        "time": iso_utc(change.at),
        "datacontenttype": "application/json",
        "data": {
            "track": _track_json(track, origin),
            "frame": {
                "id": track.frame.id,
                "captured_at": iso_utc(track.frame.at),
                "width": track.frame.width,
                "height": track.frame.height,
            },
            "zone": None if change.zone is None else {"id": change.zone, "dwell_s": _rounded(change.dwell_s)},
            "line": None if change.line is None else {"id": change.line, "direction": change.direction},
            "snapshot": None,
        },
    }


def stored_event(change: Change, origin: EventOrigin) -> dict[str, Any]:
    """Return the event of one change, plus the visits to zones that only a successor of the tracker needs."""
    event = cloud_event(change, origin)
    if change.track.visits:
        event[STORED_VISITS] = [
            {
                "zone": visit.zone,
                "entered_at": None if visit.entered_at is None else iso_utc(visit.entered_at),
                "has_dwelled": visit.has_dwelled,
            }
            for visit in change.track.visits
        ]
    return event


def _track_json(track: TrackState, origin: EventOrigin) -> dict[str, Any]:
    return {
        "id": track.id,
        "camera": origin.camera,
        "site": origin.site,
        "labels": origin.labels,
        "class": track.class_name,
        "parent": track.parent,
        "confidence": round(track.confidence, 4),
        "state": "open" if track.ended_at is None else "ended",
        "started_at": iso_utc(track.started_at),
        "last_seen_at": iso_utc(track.last_seen_at),
        "ended_at": None if track.ended_at is None else iso_utc(track.ended_at),
        "end_reason": track.end_reason,
        "stationary": track.stationary,
        "results": track.results,
        "zones": list(track.zones),
        "bounding_box": {name: round(value, 1) for name, value in track.box._asdict().items()},
        "path": [{"at": iso_utc(point.at), "x": round(point.x, 4), "y": round(point.y, 4)} for point in track.path],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


class _Stored(BaseModel):
    """Part of a stored event. Other programs may have written arbitrary data to Redis."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


_StoredTime = Annotated[AwareDatetime, Field(ge=MIN_STORED_TIME, le=MAX_STORED_TIME)]
_StoredCoordinate = Annotated[float, Field(ge=-MAX_STORED_COORDINATE, le=MAX_STORED_COORDINATE)]
_StoredSize = Annotated[int, Field(gt=0, le=MAX_FRAME_SIZE)]


class _StoredBox(_Stored):
    left: _StoredCoordinate
    top: _StoredCoordinate
    right: _StoredCoordinate
    bottom: _StoredCoordinate


class _StoredPoint(_Stored):
    at: _StoredTime
    x: float
    y: float


class _StoredFrame(_Stored):
    id: str
    captured_at: _StoredTime
    width: _StoredSize
    height: _StoredSize


class _StoredTrack(_Stored):
    id: UUID
    site: str
    labels: dict[str, str]
    name: Annotated[str, Field(alias="class")]
    parent: str
    confidence: Annotated[float, Field(ge=0, le=1)]
    started_at: _StoredTime
    last_seen_at: _StoredTime
    stationary: bool
    results: Annotated[int, Field(gt=0, le=MAX_STORED_RESULTS)]
    zones: tuple[str, ...]
    bounding_box: _StoredBox
    path: Annotated[tuple[_StoredPoint, ...], Field(max_length=MAX_PATH_POINTS)]


class _StoredData(_Stored):
    track: _StoredTrack
    frame: _StoredFrame


class _StoredVisit(_Stored):
    zone: str
    entered_at: _StoredTime | None
    has_dwelled: bool


class _StoredEvent(_Stored):
    data: _StoredData
    visits: tuple[_StoredVisit, ...] = ()


def stored_track(payload: bytes | str) -> TrackState:
    """Return the state of an open track from its latest event. Raises `ValueError` for any other data."""
    return _state(_StoredEvent.model_validate_json(payload))


def end_events(payload: bytes | str, camera: str, reason: EndReason) -> list[dict[str, Any]]:
    """Return the events that end an open track. `payload` is the latest event of this track of `camera`.

    The track first leaves its zones. The same track always gets the same event ids. Raises `ValueError` if `payload` is
    not an event of a track.
    """
    stored = _StoredEvent.model_validate_json(payload)
    state, track = _state(stored), stored.data.track
    origin = EventOrigin(site=track.site, camera=camera, labels=track.labels, service=None)
    at, events = state.last_seen_at, []
    for index, visit in enumerate(state.visits):
        change = Change(
            type=ChangeType.ZONE_LEFT,
            at=at,
            track=replace(state, visits=state.visits[index + 1 :]),
            zone=visit.zone,
            dwell_s=None if visit.entered_at is None else max(0.0, at - visit.entered_at),
        )
        events.append({**cloud_event(change, origin), "id": str(uuid5(UUID(state.id), f"left {visit.zone}"))})
    ended = replace(state, visits=(), ended_at=at, end_reason=reason)
    return [*events, cloud_event(Change(type=ChangeType.ENDED, at=at, track=ended), origin)]


def _state(stored: _StoredEvent) -> TrackState:
    track, frame, box = stored.data.track, stored.data.frame, stored.data.track.bounding_box
    visits = {each.zone: each for each in stored.visits}
    if min(box.right - box.left, box.bottom - box.top) < MIN_STORED_SIZE:
        raise ValueError("the track has no box")
    times = [track.started_at, *(point.at for point in track.path), track.last_seen_at]
    if times != sorted(times):
        raise ValueError("the times of the track are not in order")
    if any(visit.entered_at is not None and visit.entered_at > track.last_seen_at for visit in stored.visits):
        raise ValueError("the track entered a zone after its last detection")
    return TrackState(
        id=str(track.id),
        class_name=track.name,
        parent=track.parent,
        confidence=track.confidence,
        started_at=track.started_at.timestamp(),
        last_seen_at=track.last_seen_at.timestamp(),
        ended_at=None,
        end_reason=None,
        stationary=track.stationary,
        results=track.results,
        visits=tuple(_visit(zone, visits.get(zone)) for zone in track.zones),
        box=ObjectBox(box.left, box.top, box.right, box.bottom),
        frame=FrameRef(id=frame.id, at=frame.captured_at.timestamp(), width=frame.width, height=frame.height),
        path=tuple(PathPoint(point.at.timestamp(), point.x, point.y) for point in track.path),
    )


def _visit(zone: str, stored: _StoredVisit | None) -> ZoneVisit:
    if stored is None:
        return ZoneVisit(zone=zone, entered_at=None, has_dwelled=False)
    entered_at = None if stored.entered_at is None else stored.entered_at.timestamp()
    return ZoneVisit(zone=zone, entered_at=entered_at, has_dwelled=stored.has_dwelled)
