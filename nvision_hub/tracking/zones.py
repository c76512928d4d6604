"""Zones and lines of one camera, and the position of one object relative to them.

Both coordinates of a point are fractions of the frame's height, so a distance means the same in every direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub.tracking.changes import ChangeType, ZoneVisit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nvision_hub.config.tracking_section import CountingLine, ObjectFilter, Zone
    from nvision_hub.tracking.changes import Direction

Place = tuple[float, float]

CLEAR_DISTANCE: Final = 0.25  # in sizes of the object; if it is this far behind a line, one result proves the crossing


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceChange:
    """An object entered, left or stayed in a zone, or crossed a line."""

    type: ChangeType
    zone: str | None = None
    dwell_s: float | None = None
    line: str | None = None
    direction: Direction | None = None


class PlaceRules:
    """The zones and lines of a camera, scaled to the aspect ratio of its frames."""

    def __init__(self, zones: Mapping[str, Zone], lines: Mapping[str, CountingLine]) -> None:
        self.zones, self.lines = dict(zones), dict(lines)
        self._aspect = 0.0
        self.polygons: dict[str, Sequence[Place]] = {}
        self.segments: dict[str, tuple[Place, Place]] = {}

    def scale(self, aspect: float) -> None:
        """Set the aspect ratio (width divided by height) of the frames."""
        if aspect != self._aspect:
            self._aspect = aspect
            self.polygons = {name: [(x * aspect, y) for x, y in zone.points] for name, zone in self.zones.items()}
            for name, line in self.lines.items():
                (ax, ay), (bx, by) = line.points
                self.segments[name] = (ax * aspect, ay), (bx * aspect, by)


class _Visit:
    """State of one object relative to one zone."""

    __slots__ = ("dwelled", "entered_at", "inside", "streak", "streak_began_at")

    def __init__(self) -> None:
        self.inside, self.entered_at, self.dwelled = False, 0.0, False
        # Number and start time of consecutive results that contradict `inside`.
        self.streak, self.streak_began_at = 0, 0.0


class _Side:
    """State of one object relative to one line."""

    __slots__ = ("place", "side", "streak", "streak_place")

    def __init__(self, place: Place, side: bool) -> None:  # noqa: FBT001 - a value
        self.place, self.side = place, side  # last place on the settled side; `side` is True on the right of the line
        # Number of consecutive results on the other side, and the first place there.
        self.streak, self.streak_place = 0, place


class Whereabouts:
    """Zones that one object is in, and the side of each line that it is on."""

    __slots__ = ("_sides", "_visits")

    def __init__(self) -> None:
        self._visits: dict[str, _Visit] = {}
        self._sides: dict[str, _Side] = {}

    @property
    def zones(self) -> tuple[str, ...]:
        return tuple(name for name, visit in self._visits.items() if visit.inside)

    @property
    def visits(self) -> tuple[ZoneVisit, ...]:
        return tuple(
            ZoneVisit(zone=name, entered_at=visit.entered_at, has_dwelled=visit.dwelled)
            for name, visit in self._visits.items()
            if visit.inside
        )

    def resume(self, earlier: ZoneVisit, at: float) -> None:
        """Continue a visit from an earlier tracker. `at` replaces an unknown entry time."""
        visit = self._visits[earlier.zone] = _Visit()
        visit.inside, visit.dwelled = True, earlier.has_dwelled
        visit.entered_at = at if earlier.entered_at is None else earlier.entered_at

    def shift(self, seconds: float) -> None:
        """Add `seconds` to all times."""
        for visit in self._visits.values():
            visit.entered_at += seconds
            visit.streak_began_at += seconds

    def update(
        self,
        rules: PlaceRules,
        place: Place,
        at: float,
        *,
        size: float,
        class_name: str,
        confidence: float,
        is_started: bool,
    ) -> Iterator[PlaceChange]:
        """Add a position of the object, and yield the changes. Before the track has started, nothing changes."""
        for name, zone in rules.zones.items():
            inside = counts(zone, class_name, confidence) and contains(rules.polygons[name], place)
            yield from self._update_zone(name, zone, at, inside=inside, is_started=is_started)
        for name, line in rules.lines.items():
            direction = self._crossing(name, line, rules.segments[name], place, size, is_started=is_started)
            if direction is not None and counts(line, class_name, confidence):
                yield PlaceChange(type=ChangeType.LINE_CROSSED, line=name, direction=direction)

    def leave(self, at: float) -> Iterator[PlaceChange]:
        """Record that the object leaves all zones because its track ends."""
        for name, visit in self._visits.items():
            if visit.inside:
                visit.inside = False
                yield PlaceChange(type=ChangeType.ZONE_LEFT, zone=name, dwell_s=max(0.0, at - visit.entered_at))

    def _update_zone(
        self, name: str, zone: Zone, at: float, *, inside: bool, is_started: bool
    ) -> Iterator[PlaceChange]:
        visit = self._visits.get(name)
        if visit is None:
            if not inside:
                return
            visit = self._visits[name] = _Visit()
        if inside is visit.inside:
            visit.streak = 0
        else:
            if not visit.streak:
                visit.streak_began_at = at
            visit.streak += 1
            if is_started and visit.streak >= zone.inertia:
                visit.streak, visit.inside = 0, inside
                if inside:
                    visit.entered_at, visit.dwelled = visit.streak_began_at, False
                    yield PlaceChange(type=ChangeType.ZONE_ENTERED, zone=name)
                else:
                    dwell_s = visit.streak_began_at - visit.entered_at
                    yield PlaceChange(type=ChangeType.ZONE_LEFT, zone=name, dwell_s=dwell_s)
        if visit.inside and not visit.dwelled and zone.dwell is not None and at - visit.entered_at >= zone.dwell:
            visit.dwelled = True
            yield PlaceChange(type=ChangeType.ZONE_DWELLED, zone=name, dwell_s=at - visit.entered_at)

    def _crossing(
        self,
        name: str,
        line: CountingLine,
        segment: tuple[Place, Place],
        place: Place,
        size: float,
        *,
        is_started: bool,
    ) -> Direction | None:
        a, b = segment
        offset = turn(a, b, place)
        if offset == 0:
            return None
        right = offset > 0
        state = self._sides.get(name)
        if state is None:
            self._sides[name] = _Side(place, right)
            return None
        if right is state.side:
            state.place, state.streak = place, 0
            return None
        if not state.streak:
            state.streak_place = place
        state.streak += 1
        length = ((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5
        is_clear = abs(offset) > CLEAR_DISTANCE * size * length
        if not is_started or (state.streak < line.inertia and not is_clear):
            return None
        crossed = turn(state.place, state.streak_place, a) * turn(state.place, state.streak_place, b) <= 0
        self._sides[name] = _Side(place, right)
        return ("in" if right else "out") if crossed else None


def counts(rule: ObjectFilter, class_name: str, confidence: float) -> bool:
    """Return whether an object passes the filter of a zone or line."""
    return (rule.classes is None or class_name in rule.classes) and confidence >= rule.min_confidence


def turn(a: Place, b: Place, point: Place) -> float:
    """Return the cross product of a->b and a->point. It is positive if the point is on the right (y points down)."""
    return (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])


def contains(polygon: Sequence[Place], point: Place) -> bool:
    """Return whether a polygon contains a point (even-odd rule)."""
    x, y = point
    inside = False
    before_x, before_y = polygon[-1]
    for corner_x, corner_y in polygon:
        if (corner_y > y) != (before_y > y):
            at_x = before_x + (y - before_y) * (corner_x - before_x) / (corner_y - before_y)
            if x < at_x:
                inside = not inside
        before_x, before_y = corner_x, corner_y
    return inside
