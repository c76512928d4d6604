"""What a detector finds, and what every detector offers. Knows no wire format and no method of finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.service.pictures import Pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle in pixels of the picture as it was sent; `right` and `bottom` lie just outside of it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """One thing found: its class, its class's group (Nvision's `parent`), how sure (0..1), and where."""

    name: str
    parent: str
    confidence: float
    box: Box


class Detector(Protocol):
    """Finds things in the pictures of one source, which it is given in their order, one at a time."""

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:
        """What is in one picture (BGR, height x width x 3) taken at `at`, in seconds of a clock that only runs on.

        Nothing below `threshold` (0..1) need be returned; the surest come first.
        """
        ...


def box_within(left: float, top: float, right: float, bottom: float, *, width: int, height: int) -> Box | None:
    """The whole-pixel box of a measured one, cut to the picture; None where nothing of it is inside."""
    box = Box(
        left=min(max(round(left), 0), width),
        top=min(max(round(top), 0), height),
        right=min(max(round(right), 0), width),
        bottom=min(max(round(bottom), 0), height),
    )
    return box if box.right > box.left and box.bottom > box.top else None


def surest_first(found: Iterable[Detection]) -> list[Detection]:
    """`found`, ordered by falling confidence."""
    return sorted(found, key=lambda detection: detection.confidence, reverse=True)
