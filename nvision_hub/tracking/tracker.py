"""Tracks of one camera, with results as input and changes of tracks as output.

The tracker has no clock. All times are capture times of frames, so results may arrive at any rate and with gaps. If the
clock of the capture times is set, the tracker shifts the times of its tracks accordingly. Each started track ends
exactly once: when its object is lost, or when the owner of the tracker calls `end_all`.
"""

from __future__ import annotations

from collections import deque
from heapq import nlargest
from typing import TYPE_CHECKING, Final

from nvision_hub.tracking.association import associate, distinct, may_start
from nvision_hub.tracking.changes import Change, ChangeType, EndReason, FrameRef
from nvision_hub.tracking.motion import Step
from nvision_hub.tracking.observation import DetectedObject, ObjectBox
from nvision_hub.tracking.open_track import OpenTrack
from nvision_hub.tracking.zones import PlaceRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nvision_hub.config.tracking_section import CountingLine, Tracking, Zone
    from nvision_hub.tracking.changes import TrackState
    from nvision_hub.tracking.observation import Observation
    from nvision_hub.tracking.zones import PlaceChange

MAX_TRACKS: Final = 200
MAX_DETECTIONS: Final = 200  # per result; the tracker keeps the most confident detections
MAX_CANDIDATES: Final = 1_000  # per result, before duplicates are removed, which compares each pair
START_RESULTS: Final = 2
START_CONFIDENCE: Final = 1.6  # sum of the confidences of the detections that starts a track
SURE_CONFIDENCE: Final = 0.8  # while results are rare, a single detection with this confidence starts a track
RARE_INTERVAL_S: Final = 1.0
RECENT_INTERVALS: Final = 5
MAX_INTERVAL_S: Final = 60.0  # a longer time between two results is a gap
LOST_RESULTS: Final = 2  # minimum number of results without the object before a track may end
TENTATIVE_LOST_AFTER_S: Final = 0.5
STATIONARY_PATIENCE: Final = 3.0  # a stationary object may stay hidden for this many times as long
STATIONARY_UPDATES: Final = 12.0  # a stationary object causes an update this many times less often
MIN_CLOCK_STEP_S: Final = 1.0  # smaller steps do no harm unless time goes back


class Tracker:
    """Tracker of one camera.

    `new_id` returns a unique id for a track that starts at the given capture time, in seconds since the epoch.
    """

    def __init__(
        self,
        options: Tracking,
        new_id: Callable[[float], str],
        *,
        zones: Mapping[str, Zone] | None = None,
        lines: Mapping[str, CountingLine] | None = None,
    ) -> None:
        self._options = options
        self._new_id = new_id
        self._rules = PlaceRules(zones or {}, lines or {})
        self.tracks: list[OpenTrack] = []  # started and tentative tracks; callers only read them
        self._at: float | None = None  # capture time of the last result
        self._mono = 0.0  # the same moment on the monotonic clock
        self._intervals_s = deque[float](maxlen=RECENT_INTERVALS)
        self.interval_s = 0.0  # typical time between results, 0 if unknown; callers only read it

    @property
    def open(self) -> list[TrackState]:
        """The tracks that have started and have not ended."""
        return [track.state() for track in self.tracks if track.is_started]

    def update(self, observation: Observation) -> list[Change]:
        """Add a result and return the changes in order. Ignores a result that is not newer than the last one."""
        at = observation.at
        mono = at if observation.mono is None else observation.mono
        if self._at is not None and mono <= self._mono:
            return []
        dt = 0.0 if self._at is None else mono - self._mono
        self._follow_clock(at, dt)
        if self._at is not None:
            self._intervals_s.append(min(dt, MAX_INTERVAL_S))
            # The lower median, so that a gap such as an idle hour does not count.
            self.interval_s = sorted(self._intervals_s)[(len(self._intervals_s) - 1) // 2]
        self._at, self._mono = at, mono
        step = Step(dt)
        for track in self.tracks:
            track.motion.predict(step)
        aspect = observation.width / observation.height
        self._rules.scale(aspect)
        frame = FrameRef(id=observation.frame_id, at=at, width=observation.width, height=observation.height)
        detections = _usable(observation)
        seen = dict(associate(self.tracks, detections, aspect, self._options.min_confidence))
        changes: list[Change] = []
        kept: list[OpenTrack] = []
        for row, track in enumerate(self.tracks):
            if row in seen:
                track.update(frame, *detections[seen[row]])
                changes += self._seen(track, at)
                kept.append(track)
            elif self._is_lost(track, at):
                changes += self._ended(track, at, EndReason.LOST)
            else:
                kept.append(track)
        self.tracks = kept
        for track in self._begun(frame, detections, set(seen.values())):
            self.tracks.append(track)
            changes += self._seen(track, at)
        return changes

    def _follow_clock(self, at: float, dt: float) -> None:
        """If the clock was set in the `dt` seconds since the last result, shift the times of all tracks accordingly."""
        if self._at is not None:
            step = at - self._at - dt
            if abs(step) >= MIN_CLOCK_STEP_S or at <= self._at:
                for track in self.tracks:
                    track.shift(step)
        for track in self.tracks:
            if track.last_seen_at > at:  # a track of an earlier tracker, which ran before the clock was set
                track.shift(at - track.last_seen_at)

    def end_all(self, reason: EndReason) -> list[Change]:
        """End all tracks and return the changes."""
        tracks, self.tracks = self.tracks, []
        return [change for track in tracks for change in self._ended(track, track.last_seen_at, reason)]

    def restore(self, states: Iterable[TrackState]) -> list[Change]:
        """Continue tracks of an earlier tracker of the same camera. Tracks that do not reappear are lost as usual.

        If there are more than `MAX_TRACKS` tracks, end those that were last seen longest ago. Return the changes.
        """
        known = {track.id for track in self.tracks}
        earlier: list[OpenTrack] = []
        for state in states:
            if state.id in known:
                continue
            known.add(state.id)
            scale = 1 / state.frame.height
            box = ObjectBox(*(value * scale for value in state.box))
            detection = DetectedObject(
                name=state.class_name, parent=state.parent, confidence=state.confidence, box=state.box
            )
            track = OpenTrack(state.id, state.frame, detection, box)
            track.resume(state, self._rules.zones)
            if self._at is not None and self._at > state.last_seen_at:
                track.motion.predict(Step(self._at - state.last_seen_at))
            earlier.append(track)
        earlier.sort(key=lambda track: track.last_seen_at)
        excess = max(0, len(self.tracks) + len(earlier) - MAX_TRACKS)
        self.tracks += earlier[excess:]
        return [
            change for track in earlier[:excess] for change in self._ended(track, track.last_seen_at, EndReason.LOST)
        ]

    def _begun(
        self, frame: FrameRef, detections: list[tuple[DetectedObject, ObjectBox]], matched: set[int]
    ) -> Iterator[OpenTrack]:
        boxes = [detections[column][1] for column in matched]
        for column, (detection, box) in enumerate(detections):
            if column in matched or detection.confidence < self._options.min_confidence:
                continue
            if len(self.tracks) < MAX_TRACKS and may_start(box, boxes):
                boxes.append(box)
                yield OpenTrack(self._new_id(frame.at), frame, detection, box)

    def _seen(self, track: OpenTrack, at: float) -> Iterator[Change]:
        """Yield the changes of a track whose object was just detected."""
        place = track.place(self._options.anchor)
        starts = not track.is_started and self._is_confirmed(track)
        track.is_started |= starts
        track.add_point(at, place)
        places = list(
            track.whereabouts.update(
                self._rules,
                place,
                at,
                size=track.motion.size,
                class_name=track.class_name,
                confidence=track.confidence,
                is_started=track.is_started,
            )
        )
        if not track.is_started:
            return
        if starts:
            track.updated_at, track.updated_class = at, track.class_name
            yield Change(type=ChangeType.STARTED, at=at, track=track.state())
        yield from _place_changes(track, at, places)
        interval_s = self._options.update_interval * (STATIONARY_UPDATES if track.stationary else 1)
        is_due = at - track.updated_at >= interval_s or track.class_name != track.updated_class
        if is_due or any(each.type in {ChangeType.ZONE_ENTERED, ChangeType.ZONE_LEFT} for each in places):
            track.updated_at, track.updated_class = at, track.class_name
            yield Change(type=ChangeType.UPDATED, at=at, track=track.state())

    def _ended(self, track: OpenTrack, at: float, reason: EndReason) -> Iterator[Change]:
        if track.is_started:
            yield from _place_changes(track, at, list(track.whereabouts.leave(track.last_seen_at)))
            yield Change(type=ChangeType.ENDED, at=at, track=track.state(reason))

    def _is_confirmed(self, track: OpenTrack) -> bool:
        if track.results >= START_RESULTS and track.confidence_sum >= START_CONFIDENCE:
            return True
        return self.interval_s > RARE_INTERVAL_S and track.confidence >= SURE_CONFIDENCE

    def _is_lost(self, track: OpenTrack, at: float) -> bool:
        track.miss(at)
        if track.misses < LOST_RESULTS:
            return False
        if not track.is_started:
            return at - track.last_seen_at >= TENTATIVE_LOST_AFTER_S
        patience = STATIONARY_PATIENCE if track.stationary else 1.0
        return at - track.first_missed_at >= patience * self._options.lost_after


def _place_changes(track: OpenTrack, at: float, changes: Iterable[PlaceChange]) -> Iterator[Change]:
    for each in changes:
        yield Change(
            type=each.type,
            at=at,
            track=track.state(),
            zone=each.zone,
            dwell_s=each.dwell_s,
            line=each.line,
            direction=each.direction,
        )


def _usable(observation: Observation) -> list[tuple[DetectedObject, ObjectBox]]:
    """Return the detections, with boxes in fractions of the frame's height. Omit empty and repeated boxes."""
    scale = 1 / observation.height
    found = [
        (each, ObjectBox(left * scale, top * scale, right * scale, bottom * scale))
        for each in observation.detections
        for left, top, right, bottom in (each.box,)
        if right > left and bottom > top
    ]
    return distinct(nlargest(MAX_CANDIDATES, found, key=lambda pair: pair[0].confidence))[:MAX_DETECTIONS]
