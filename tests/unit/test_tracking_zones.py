"""Zones and lines: entering, leaving, dwelling and crossing, with inertia and filters."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.config.tracking_section import CountingLine, Tracking, Zone
from nvision_hub.tracking.changes import ChangeType, EndReason
from nvision_hub.tracking.observation import DetectedObject, ObjectBox, Observation
from nvision_hub.tracking.tracker import Tracker
from nvision_hub.tracking.zones import contains, turn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvision_hub.tracking.changes import Change

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
DOWN = ((0.5, 0.0), (0.5, 1.0))  # a line from the top to the bottom; its left side is the right half of the frame


def follow(
    places: Iterable[float],
    *,
    zone: Zone | None = None,
    line: CountingLine | None = None,
    name: str = "person",
    y: float = 0.8,
    options: Tracking | None = None,
) -> list[Change]:
    """Return the changes of an object whose columns (fractions of the frame) are given, twice a second."""
    ids = itertools.count(1)
    tracker = Tracker(
        options or Tracking(),
        lambda _at: str(next(ids)),
        zones={} if zone is None else {"zone": zone},
        lines={} if line is None else {"line": line},
    )
    changes = []
    for number, x in enumerate(places):
        box = ObjectBox(1000 * x - 40, 1000 * y - 200, 1000 * x + 40, 1000 * y)
        detection = DetectedObject(name=name, parent="", confidence=0.9, box=box)
        at = number / 2
        changes += tracker.update(
            Observation(frame_id=str(number), at=at, width=1000, height=1000, detections=(detection,))
        )
    return [*changes, *tracker.end_all(EndReason.STOPPED)]


def walk(*ends: float, step: float = 0.03) -> list[float]:
    """Return columns from each end to the next."""
    places = [ends[0]]
    for goal in ends[1:]:
        while abs(goal - places[-1]) > step:
            places.append(places[-1] + (step if goal > places[-1] else -step))
    return places


def of_zone(changes: Iterable[Change]) -> list[str]:
    return [each.type.value for each in changes if each.zone is not None]


def crossings(changes: Iterable[Change]) -> list[str | None]:
    return [each.direction for each in changes if each.type is ChangeType.LINE_CROSSED]


def test_a_zone_is_entered_and_left_once_with_the_time_in_between() -> None:
    changes = follow(walk(0.9, 0.2, 0.9), zone=Zone(points=LEFT_HALF))
    assert of_zone(changes) == ["zone.entered", "zone.left"]
    entered, left = (each for each in changes if each.zone == "zone")
    assert entered.track.zones == ("zone",)
    assert entered.dwell_s is None
    assert left.track.zones == ()
    assert left.dwell_s == pytest.approx(0.6 / 0.06, abs=2)


def test_a_track_that_ends_in_a_zone_leaves_it_first() -> None:
    changes = follow([0.2] * 6, zone=Zone(points=LEFT_HALF))
    assert [each.type.value for each in changes] == [
        "track.started",
        "zone.entered",
        "track.updated",
        "zone.left",
        "track.ended",
    ]


def test_an_object_on_the_edge_of_a_zone_does_not_flap() -> None:
    places = [0.5 + 0.02 * (-1) ** number for number in range(40)]
    assert len(of_zone(follow(places, zone=Zone(points=LEFT_HALF)))) <= 2


def test_dwelling_is_reported_once_per_visit() -> None:
    zone = Zone(points=LEFT_HALF, dwell=5)
    changes = follow([*[0.2] * 30, *walk(0.2, 0.8), *walk(0.8, 0.2), *[0.2] * 30], zone=zone)
    assert of_zone(changes) == ["zone.entered", "zone.dwelled", "zone.left"] * 2
    dwelled = [each.dwell_s for each in changes if each.type is ChangeType.ZONE_DWELLED]
    assert dwelled[0] == 5


def test_only_classes_of_the_filter_count() -> None:
    zone = Zone(points=LEFT_HALF, classes=("car",))
    assert of_zone(follow([0.2] * 6, zone=zone)) == []
    assert of_zone(follow([0.2] * 6, zone=zone, name="car")) != []
    line = CountingLine(points=DOWN, min_confidence=0.95)
    assert crossings(follow(walk(0.1, 0.9), line=line)) == []


def test_crossing_a_line_has_a_direction() -> None:
    line = CountingLine(points=DOWN)
    assert crossings(follow(walk(0.1, 0.9), line=line)) == ["out"]
    assert crossings(follow(walk(0.9, 0.1), line=line)) == ["in"], "from the left of the line to its right"
    assert crossings(follow(walk(0.1, 0.9, 0.1), line=line)) == ["out", "in"]
    assert crossings(follow(walk(0.1, 0.9), line=CountingLine(points=(DOWN[1], DOWN[0])))) == ["in"]


def test_passing_beside_a_line_is_no_crossing() -> None:
    assert crossings(follow(walk(0.1, 0.9), line=CountingLine(points=((0.5, 0.0), (0.5, 0.5))))) == []


def test_an_object_that_stands_on_a_line_does_not_cross_it_again_and_again() -> None:
    places = [*walk(0.3, 0.5), *[0.5 + 0.015 * (-1) ** number for number in range(60)]]
    assert len(crossings(follow(places, line=CountingLine(points=DOWN)))) <= 1


def test_the_anchor_may_be_the_center_of_the_box() -> None:
    upper = Zone(points=((0, 0), (1, 0), (1, 0.75), (0, 0.75)))
    assert of_zone(follow([0.2] * 6, zone=upper)) == []
    assert of_zone(follow([0.2] * 6, zone=upper, options=Tracking(anchor="center"))) == ["zone.entered", "zone.left"]


COORDINATE = st.floats(0, 1, allow_nan=False)
POINT = st.tuples(COORDINATE, COORDINATE)


@given(st.tuples(POINT, POINT, POINT), POINT)
def test_a_triangle_contains_the_points_that_are_on_the_same_side_of_all_edges(
    triangle: tuple[tuple[float, float], ...], point: tuple[float, float]
) -> None:
    a, b, c = triangle
    turns = [turn(a, b, point), turn(b, c, point), turn(c, a, point)]
    if min(abs(each) for each in turns) < 1e-9:
        return  # on an edge, where both answers are right
    assert contains(triangle, point) is (all(each > 0 for each in turns) or all(each < 0 for each in turns))
