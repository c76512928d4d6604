"""One open track: where the object is, what it is, and how certain the tracker is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from nvision_hub.tracking.changes import PathPoint, TrackState
from nvision_hub.tracking.motion import MotionEstimate
from nvision_hub.tracking.zones import Whereabouts

if TYPE_CHECKING:
    from collections.abc import Container

    from nvision_hub.tracking.changes import EndReason, FrameRef
    from nvision_hub.tracking.observation import DetectedObject, ObjectBox
    from nvision_hub.tracking.zones import Place

CLASS_LEAD: Final = 1.5  # a class replaces the current class if it has this many times as many votes
MAX_VOTES: Final = 20.0  # above this sum, the track halves all votes, so that old detections count less
MAX_CLASSES: Final = 16  # number of classes for which a track keeps votes
STATIONARY_AFTER_S: Final = 10.0
STATIONARY_RADIUS: Final = 0.2  # in sizes; a stationary object stays within this distance
MOVING_RADIUS: Final = 0.4  # a stationary object counts as moving after two results in a row beyond this distance
MAX_PATH_POINTS: Final = 64


class OpenTrack:
    """Mutable state of one track."""

    __slots__ = (
        "_away",
        "_path",
        "_still_place",
        "_still_since",
        "class_name",
        "confidence_sum",
        "first_missed_at",
        "frame",
        "id",
        "is_started",
        "last_seen_at",
        "misses",
        "motion",
        "parents",
        "pixels",
        "results",
        "started_at",
        "stationary",
        "unit_box",
        "updated_at",
        "updated_class",
        "votes",
        "whereabouts",
    )

    def __init__(self, track_id: str, frame: FrameRef, detection: DetectedObject, box: ObjectBox) -> None:
        self.id = track_id
        self.started_at = self.last_seen_at = self.updated_at = self._still_since = frame.at
        self.motion = MotionEstimate(box)
        self.unit_box = box  # the box in fractions of the frame's height
        self.frame, self.pixels = frame, detection.box
        self.is_started = False
        self.results, self.confidence_sum = 0, 0.0
        self.misses, self.first_missed_at = 0, 0.0  # number and start time of consecutive results without the object
        self.votes: dict[str, float] = {}  # sum of confidences by class
        self.parents: dict[str, str] = {}
        self.class_name = self.updated_class = detection.name
        self._still_place, self._away = (self.motion.x, self.motion.y), 0
        self.stationary = False
        self._path: list[PathPoint] = []
        self.whereabouts = Whereabouts()
        self._count(detection)

    def resume(self, state: TrackState, zones: Container[str]) -> None:
        """Continue a track of an earlier tracker. This object must have only the latest detection of that track so far.

        `zones` are the zones of the camera. The track forgets visits to other zones.
        """
        self.is_started, self.stationary = True, state.stationary
        self.started_at, self.last_seen_at = state.started_at, state.last_seen_at
        self.results, self.confidence_sum = state.results, state.confidence * state.results
        self.votes[self.class_name] = min(self.confidence_sum, MAX_VOTES)
        self._path = list(state.path)
        for visit in state.visits:
            if visit.zone in zones:
                self.whereabouts.resume(visit, state.last_seen_at)

    def shift(self, seconds: float) -> None:
        """Add `seconds` to all times, because the clock was set. The frame keeps the time of its result."""
        self.started_at += seconds
        self.last_seen_at += seconds
        self.updated_at += seconds
        self.first_missed_at += seconds
        self._still_since += seconds
        self._path = [point._replace(at=point.at + seconds) for point in self._path]
        self.whereabouts.shift(seconds)

    def update(self, frame: FrameRef, detection: DetectedObject, box: ObjectBox) -> None:
        """Add a detection of the object."""
        self.motion.update(box)
        self.unit_box, self.frame, self.pixels = box, frame, detection.box
        self.last_seen_at, self.misses = frame.at, 0
        self._count(detection)
        self._update_stationary(frame.at)

    def miss(self, at: float) -> None:
        """Record a result without a detection of the object."""
        if not self.misses:
            self.first_missed_at = at
        self.misses += 1

    def place(self, anchor: Literal["foot", "center"]) -> Place:
        """Return the point that represents the object, in fractions of the frame's height."""
        motion = self.motion
        return motion.x, motion.y if anchor == "foot" else motion.y - motion.height / 2

    def add_point(self, at: float, place: Place) -> None:
        """Append a point to the path. If the path is full, first remove every second point."""
        if len(self._path) >= MAX_PATH_POINTS:
            del self._path[1:-1:2]
        x, y = place
        self._path.append(PathPoint(at, x * self.frame.height / self.frame.width, y))

    def state(self, ended: EndReason | None = None) -> TrackState:
        """Return the current state. `ended` is the reason for the end of the track; None while the track is open."""
        return TrackState(
            id=self.id,
            class_name=self.class_name,
            parent=self.parent,
            confidence=self.confidence,
            started_at=self.started_at,
            last_seen_at=self.last_seen_at,
            ended_at=None if ended is None else self.last_seen_at,
            end_reason=ended,
            stationary=self.stationary,
            results=self.results,
            visits=self.whereabouts.visits,
            box=self.pixels,
            frame=self.frame,
            path=tuple(self._path),
        )

    @property
    def parent(self) -> str:
        return self.parents.get(self.class_name, "")

    @property
    def confidence(self) -> float:
        """Mean confidence of the object's detections."""
        return self.confidence_sum / self.results

    def _count(self, detection: DetectedObject) -> None:
        self.results += 1
        self.confidence_sum += detection.confidence
        votes, name = self.votes, detection.name
        if name not in votes:
            if len(votes) >= MAX_CLASSES:
                return
            self.parents[name] = detection.parent
        votes[name] = votes.get(name, 0.0) + detection.confidence
        if name != self.class_name and votes[name] > CLASS_LEAD * votes[self.class_name]:
            self.class_name = name
        if sum(votes.values()) > MAX_VOTES:
            for each in votes:
                votes[each] /= 2

    def _update_stationary(self, at: float) -> None:
        x, y = self._still_place
        distance = max(abs(self.motion.x - x), abs(self.motion.y - y)) / self.motion.size
        self._away = self._away + 1 if distance > (MOVING_RADIUS if self.stationary else STATIONARY_RADIUS) else 0
        if self._away >= (2 if self.stationary else 1):
            self._still_place, self._still_since = (self.motion.x, self.motion.y), at
            self._away, self.stationary = 0, False
        elif at - self._still_since >= STATIONARY_AFTER_S:
            self.stationary = True
