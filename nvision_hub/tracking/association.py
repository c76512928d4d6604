"""Association of the detections in a result with the tracks.

Each plausible pair gets a cost: the negative logarithm of the likelihood that the track's object produced the detection
(`motion.py`), plus penalties for a different class and for low confidence. The assignment with the lowest total cost
wins (global nearest neighbor: Blackman and Popoli, "Design and Analysis of Modern Tracking Systems", 1999). Detections
of low confidence continue tracks but never start one (Zhang et al., "ByteTrack", 2022).

If results are rare, the position of an object at the next result becomes so uncertain that every place is unlikely,
even the last one. A second pass therefore matches the remaining pairs by overlap. An object that stays in place, such
as a parked car, keeps its track at any rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nvision_hub.tracking.assignment import assign
from nvision_hub.tracking.observation import ObjectBox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.tracking.observation import DetectedObject
    from nvision_hub.tracking.open_track import OpenTrack

MAX_COST: Final = 5.0
INNER_COST: Final = 2.0  # extra cost limit away from the edges of the frame, because few objects first appear there
EDGE_DISTANCE: Final = 0.8  # distance from an edge, in sizes of the object
MAX_TENTATIVE_COST: Final = 6.0  # limit for a track that has not started, so that only a nearby detection continues it
OTHER_CLASS_COST: Final = 1.0
OTHER_PARENT_COST: Final = 3.0
LOW_CONFIDENCE_COST: Final = 3.5  # cost of a detection with confidence 0; falls to 0 at `min_confidence`
MIN_STILL_OVERLAP: Final = 0.5  # minimum overlap of an object that has stayed in place
MAX_STILL_REACH: Final = 0.5  # in sizes; up to this reach, the object's place is too uncertain for its motion model
# Unless the object is stationary; after several results, other objects may have come to its place.
MAX_STILL_MISSES: Final = 1
MAX_OVERLAP: Final = 0.75  # if two boxes overlap more than this, the service has reported one object twice
MAX_START_OVERLAP: Final = 0.3  # a box that overlaps a tracked box more than this starts no track


def distinct(detections: Sequence[tuple[DetectedObject, ObjectBox]]) -> list[tuple[DetectedObject, ObjectBox]]:
    """Return the detections, the most confident first. Omit duplicates of more confident detections."""
    kept: list[tuple[DetectedObject, ObjectBox]] = []
    for each in sorted(detections, key=lambda pair: -pair[0].confidence):
        left, top, right, bottom = box = each[1]
        for _, (other_left, other_top, other_right, other_bottom) in kept:
            if left < other_right and other_left < right and top < other_bottom and other_top < bottom:
                other = ObjectBox(other_left, other_top, other_right, other_bottom)
                if box.overlap(other) > MAX_OVERLAP:
                    break
        else:
            kept.append(each)
    return kept


def associate(
    tracks: Sequence[OpenTrack],
    detections: Sequence[tuple[DetectedObject, ObjectBox]],
    aspect: float,
    min_confidence: float,
) -> list[tuple[int, int]]:
    """Return (index of a track, index of a detection) for each track that continues."""
    pairs: list[tuple[int, int, float]] = []
    limits = [MAX_COST + INNER_COST if track.is_started else MAX_TENTATIVE_COST for track in tracks]
    near = [
        (each.motion.x, each.motion.y, each.motion.reach(limit)) for each, limit in zip(tracks, limits, strict=True)
    ]
    for column, (detection, box) in enumerate(detections):
        left, top, right, bottom = box
        x, margin = (left + right) / 2, EDGE_DISTANCE * (right - left + bottom - top) / 2
        is_inner = left > margin and right < aspect - margin and bottom < 1 - margin / 4
        doubt = LOW_CONFIDENCE_COST * max(0.0, 1 - detection.confidence / min_confidence) if min_confidence else 0.0
        for row, (track_x, track_y, reach) in enumerate(near):
            if not (-reach < x - track_x < reach):
                continue
            # If the lower part of the object is hidden, the object's foot point is below the box.
            if not (-reach < track_y - bottom < max(reach, tracks[row].motion.height)):
                continue
            track = tracks[row]
            cost = track.motion.cost(box) + doubt
            if detection.name != track.class_name:
                is_related = detection.parent and detection.parent == track.parent
                cost += OTHER_CLASS_COST if is_related or detection.name in track.votes else OTHER_PARENT_COST
            limit = limits[row] if is_inner or not track.is_started else MAX_COST
            if cost < limit:
                pairs.append((row, column, cost + MAX_COST - limit))
    matched = assign(pairs, MAX_COST)
    return matched + _still(tracks, detections, matched)


def _still(
    tracks: Sequence[OpenTrack], detections: Sequence[tuple[DetectedObject, ObjectBox]], matched: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return additional pairs: tracks and detections of the same class in the same place."""
    if len(matched) in {len(tracks), len(detections)}:
        return []
    rows, columns = {row for row, _ in matched}, {column for _, column in matched}
    remaining = [column for column in range(len(detections)) if column not in columns]
    pairs: list[tuple[int, int, float]] = []
    for row, track in enumerate(tracks):
        if row in rows or not (track.stationary or _is_uncertain(track)):
            continue
        for column in remaining:
            detection, box = detections[column]
            if detection.name == track.class_name and (overlap := box.overlap(track.unit_box)) >= MIN_STILL_OVERLAP:
                pairs.append((row, column, 1 - overlap))
    return assign(pairs, 1.0)


def _is_uncertain(track: OpenTrack) -> bool:
    """Return whether the time between two results is too long for a motion model to help."""
    motion = track.motion
    return track.misses <= MAX_STILL_MISSES and motion.reach(MAX_COST) <= MAX_STILL_REACH * motion.size


def may_start(box: ObjectBox, matched: Sequence[ObjectBox]) -> bool:
    """Return whether a detection that continues no track may start one."""
    return all(box.overlap(other) <= MAX_START_OVERLAP for other in matched)
