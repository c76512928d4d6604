"""Behavior of the tracker at low rates of results and after gaps."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import pytest

from nvision_hub.config.tracking_section import Tracking
from nvision_hub.tracking.observation import DetectedObject, ObjectBox, Observation
from nvision_hub.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 640, 480
PERSON: Final = ObjectBox(300, 100, 360, 300)


def tracker() -> Tracker:
    counter = itertools.count(1)
    return Tracker(Tracking(), lambda _at: str(next(counter)))


def update(track: Tracker, at: float, *boxes: ObjectBox, name: str = "person", confidence: float = 0.9) -> list[str]:
    """Add a result, and return the types of the changes."""
    parent = "human" if name == "person" else "vehicle"
    detections = tuple(DetectedObject(name=name, parent=parent, confidence=confidence, box=each) for each in boxes)
    changes = track.update(Observation(frame_id=f"{at:g}", at=at, width=WIDTH, height=HEIGHT, detections=detections))
    return [each.type.value for each in changes]


def test_one_false_box_after_a_gap_starts_no_track() -> None:
    track = tracker()
    for step in range(10):
        update(track, step / 5)
    for step in range(50):
        boxes: Sequence[ObjectBox] = [PERSON] if step == 5 else []
        assert update(track, 3600 + step / 5, *boxes, confidence=0.82) == []


def test_the_typical_interval_follows_a_lower_rate() -> None:
    track = tracker()
    for at in (0.0, 0.2, 0.4, 0.6, 0.8, 5.8, 10.8, 15.8):
        update(track, at)
    assert track.interval_s == 5
    assert update(track, 20.8, PERSON) == ["track.started"]


@pytest.mark.parametrize("interval_s", [0.2, 1, 3, 5, 8, 10, 30])
@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("car", ObjectBox(0, 200, 120, 260)),
        ("car", ObjectBox(510, 415, 630, 475)),
        ("car", ObjectBox(250, 200, 370, 260)),
        ("person", ObjectBox(0, 100, 60, 300)),
        ("person", PERSON),
    ],
)
def test_an_object_that_stays_in_place_is_one_track_at_any_rate(name: str, box: ObjectBox, interval_s: float) -> None:
    track = tracker()
    types = []
    for step in range(60):
        shift = 2 * (-1) ** step
        moved = ObjectBox(box.left + shift, box.top, box.right + shift, box.bottom + shift)
        types += update(track, step * interval_s, moved, name=name)
    assert (types[0], types.count("track.started"), types.count("track.ended")) == ("track.started", 1, 0)
    assert track.open[0].results == 60


def test_a_stationary_object_at_the_edge_may_be_hidden_for_a_while() -> None:
    track, box = tracker(), ObjectBox(0, 200, 120, 260)
    types = []
    for step in range(200):
        types += update(track, step / 5, *([] if 100 <= step < 140 else [box]), name="car")
    assert (types.count("track.started"), types.count("track.ended")) == (1, 0)
    assert track.open[0].results == 160


def test_one_of_two_objects_in_a_row_may_leave_at_a_low_rate() -> None:
    """Two cars are parked side by side. The one that stays keeps its track."""
    track = tracker()
    left, right = ObjectBox(0, 200, 120, 260), ObjectBox(90, 200, 210, 260)
    for step in range(5):
        update(track, 5.0 * step, left, right, name="car")
    types = [each for step in range(5, 10) for each in update(track, 5.0 * step, right, name="car")]
    assert "track.started" not in types
    assert types.count("track.ended") == 1
    (stays,) = track.open
    assert (stays.box.left, stays.results) == (90, 10)
