"""Input of the tracker: one result with its boxes and the capture time of its frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ObjectBox(NamedTuple):
    """Rectangle. The unit depends on the context: pixels of the frame, or fractions of the frame's height."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)

    def overlap(self, other: ObjectBox) -> float:
        """Return the area of the intersection divided by the area of the union (IoU), from 0 to 1."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height
        return shared / (self.area + other.area - shared)


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectedObject:
    """One box of a result. `box` is in pixels. `parent` is the service's group of classes, such as `human`."""

    name: str
    parent: str = ""
    confidence: float
    box: ObjectBox


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One result.

    `at` is the capture time of the frame, in seconds since the epoch. `mono` is the same moment on the monotonic clock.
    The order of results and the time between them come from `mono`, or from `at` if `mono` is None.
    """

    frame_id: str
    at: float
    mono: float | None = None
    width: int
    height: int
    detections: tuple[DetectedObject, ...]
