"""Output of the tracker: what changed, and the state of the track at that moment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from nvision_hub.tracking.observation import ObjectBox

Direction = Literal["in", "out"]
STORED_VISITS: Final = "visits"  # key of an event in the hash of open tracks only; consumers do not receive it


class ChangeType(StrEnum):
    STARTED = "track.started"
    UPDATED = "track.updated"
    ENDED = "track.ended"
    ZONE_ENTERED = "zone.entered"
    ZONE_LEFT = "zone.left"
    ZONE_DWELLED = "zone.dwelled"
    LINE_CROSSED = "line.crossed"


class EndReason(StrEnum):
    """Reason why a track ended."""

    LOST = "lost"  # the object was not detected for `lost_after` seconds
    CAMERA_LOST = "camera_lost"  # the camera stopped sending frames
    PAUSED = "paused"  # an operator, a schedule or a limit on images stopped the sending of frames
    STOPPED = "stopped"  # the hub stopped, or restarted or removed the camera
    REMOVED = "removed"  # the camera was removed while no worker was running that could end its tracks
    TRACKING_OFF = "tracking_off"  # tracking was turned off while no worker was running that could end the tracks


class PathPoint(NamedTuple):
    """Position of an object's anchor: capture time in seconds since the epoch, and fractions of width and height."""

    at: float
    x: float
    y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRef:
    """Frame in which an object was seen. `at` is the capture time in seconds since the epoch."""

    id: str
    at: float
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ZoneVisit:
    """Stay of an object in a zone. `entered_at` is a capture time; None if unknown."""

    zone: str
    entered_at: float | None
    has_dwelled: bool  # whether `zone.dwelled` has been reported


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackState:
    """One track at one moment. Times are capture times in seconds since the epoch."""

    id: str
    class_name: str
    parent: str
    confidence: float  # mean of the track's detections
    started_at: float
    last_seen_at: float
    ended_at: float | None  # None while the track is open
    end_reason: EndReason | None
    stationary: bool
    results: int  # number of results in which the object was detected
    visits: tuple[ZoneVisit, ...]  # visits of the zones that the object is in now
    box: ObjectBox  # in pixels of `frame`
    frame: FrameRef  # the frame of the latest detection
    path: tuple[PathPoint, ...]

    @property
    def zones(self) -> tuple[str, ...]:
        """Ids of the zones that the object is in."""
        return tuple(visit.zone for visit in self.visits)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One event of a track. `at` is the capture time of the result that caused the event."""

    type: ChangeType
    at: float
    track: TrackState
    zone: str | None = None
    dwell_s: float | None = None  # seconds that the object has been in `zone`; None if the object has just entered
    line: str | None = None
    direction: Direction | None = None
