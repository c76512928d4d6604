"""The keys `tracking`, `zones` and `lines` of a camera."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from nvision_hub.config.field_types import ID_PATTERN, Fraction, Names, Point, Polygon, Seconds, Section
from nvision_hub.errors import InvalidValueError

NamedSection = TypeVar("NamedSection", bound=Section)

MIN_ZONE_AREA: Final = 1e-6  # fraction of the area of the frame
MAX_ZONES: Final = 32


def _simple_polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    area = sum(
        one[0] * other[1] - other[0] * one[1] for one, other in zip(points, (*points[1:], points[0]), strict=True)
    )
    if abs(area) / 2 < MIN_ZONE_AREA:
        raise InvalidValueError("encloses no area", "list the corners of the zone in order, as fractions of the frame")
    return points


def _two_places(points: tuple[Point, Point]) -> tuple[Point, Point]:
    if points[0] == points[1]:
        raise InvalidValueError("has the same point twice", "give the two ends of the line")
    return points


# Values of `webhooks[].events`: results, and the types of track events without the prefix `nvision.`.
WebhookEvent = Literal[
    "result",
    "track.started",
    "track.updated",
    "track.ended",
    "zone.entered",
    "zone.left",
    "zone.dwelled",
    "line.crossed",
]
ZoneId = Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]
ZonePoints = Annotated[Polygon, AfterValidator(_simple_polygon)]
LinePoints = Annotated[tuple[Point, Point], AfterValidator(_two_places)]
EmptyMapping = BeforeValidator(lambda value: {} if value is None else value)


class Tracking(Section):
    """How results become tracks."""

    lost_after: Seconds = 4.0
    """Seconds without a detection after which a track ends. An object that reappears earlier keeps its track."""
    update_interval: Seconds = 5.0
    """Minimum number of seconds between two `track.updated` events of a track."""
    min_confidence: Fraction = 0.4
    """Minimum confidence of a detection that begins a track, 0 to 1. Any detection continues a track."""
    anchor: Literal["foot", "center"] = "foot"
    """The point that represents an object in zones and on lines: `foot`, the middle of the lower edge of its box, or
    `center`, for cameras that look straight down."""


class ObjectFilter(Section):
    """The objects that count in a zone or on a line."""

    classes: Names | None = None
    """Classes of the objects that count; all if omitted."""
    min_confidence: Fraction = 0.0
    """Minimum mean confidence of the objects that count, 0 to 1."""
    inertia: Annotated[int, Field(ge=1, le=100)] = 2
    """Number of consecutive results that must agree before an object counts as inside, outside or across the line."""


class Zone(ObjectFilter):
    """An area of the frame in which objects are counted and timed."""

    points: ZonePoints
    """The corners of the zone in order; points are fractions (0 to 1) of the width and the height."""
    dwell: Seconds | None = None
    """Seconds after which an object in the zone causes a `zone.dwelled` event; no such event if omitted."""


class CountingLine(ObjectFilter):
    """A line on which objects are counted by direction.

    The direction is `in` for objects that cross from the left of the line to its right, seen from its first point.
    """

    points: LinePoints
    """The two ends of the line; points are fractions (0 to 1) of the width and the height."""


def _off_is_none(value: object) -> object:
    """Return None for `off`. Null means the defaults, as it does in every section."""
    if value is None:
        return {}
    if value == "off":
        return None
    if isinstance(value, str | bool):
        raise InvalidValueError("must be `off` or a section of indented `key: value` lines")
    return value


class NamedSections(dict[str, NamedSection]):
    """Sections by name. The mapping is hashable, like every other value of a camera. Do not modify it."""

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        return hash(frozenset(self.items()))


TrackingOrOff = Annotated[
    Tracking | None, BeforeValidator(_off_is_none, json_schema_input_type=Tracking | Literal["off"])
]
Zones = Annotated[dict[ZoneId, Zone], Field(max_length=MAX_ZONES), EmptyMapping, AfterValidator(NamedSections[Zone])]
Lines = Annotated[
    dict[ZoneId, CountingLine], Field(max_length=MAX_ZONES), EmptyMapping, AfterValidator(NamedSections[CountingLine])
]
