"""True boxes of the demo scenes, a detector with known errors, and the true zone visits and line crossings."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub.media import cv2_loader
from nvision_hub.tracking.observation import DetectedObject, ObjectBox, Observation

cv2_loader.load()

from workers.demo.backdrop import HEIGHT, WIDTH  # noqa: E402 - after OpenCV
from workers.demo.figures import PERSON_M, Car, Person  # noqa: E402 - likewise
from workers.demo.scene import LOOP_S, SCENES  # noqa: E402 - likewise

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from workers.demo.scene import Actor, Scene

FINE_S: Final = 0.02
# Fraction of a figure's width that must be inside the image before a detector may report the figure.
VISIBLE_SHARE: Final = 0.4
FLIPS: Final = {"person": "dog", "car": "truck"}
PARENTS: Final = {"person": "human", "dog": "animal", "car": "vehicle", "truck": "vehicle"}

Place = tuple[float, float]  # foot point as fractions of the width and the height


@dataclass(frozen=True, kw_only=True)
class DetectorErrors:
    """Errors of a detector. Shares are from 0 to 1, and `jitter` is relative to the box."""

    misses: float = 0.2
    false_boxes: float = 0.05
    jitter: float = 0.05
    flips: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Visible:
    """One object in one frame. Each pass of an actor through the scene is a separate object."""

    id: int
    name: str
    box: ObjectBox


class TrueScene:
    """A demo scene whose loop repeats. Objects that leave and return count again."""

    def __init__(self, name: str) -> None:
        self._scene: Scene = SCENES[name]

    def visible(self, at: float) -> list[Visible]:
        """Return the objects in the image at `at` seconds."""
        found = []
        for index, actor in enumerate(self._scene.actors):
            for run in range(-1, int(at // LOOP_S) + 1):
                now = at - run * LOOP_S
                if run >= 0 and actor.path[0][0] <= now < actor.path[-1][0]:
                    box = self._box(actor, now)
                    width = min(WIDTH, box.right) - max(0.0, box.left)
                    if width >= VISIBLE_SHARE * (box.right - box.left):
                        found.append(Visible(id=100 * run + index, name=_name(actor), box=box))
        return found

    def name(self, identity: int) -> str:
        """Return the class of an object."""
        return _name(self._scene.actors[identity % 100])

    def _box(self, actor: Actor, now: float) -> ObjectBox:
        pose = self._scene._pose(actor, now)
        if isinstance(actor.figure, Person):
            width, height = 0.4 * PERSON_M, PERSON_M
        else:
            width, height = actor.figure.length_m, actor.figure.height_m
        half, tall = width * pose.pixels_per_m / 2, height * pose.pixels_per_m
        return ObjectBox(pose.x - half, pose.y - tall, pose.x + half, pose.y)

    def objects(self, seconds: float) -> dict[int, list[tuple[float, Place]]]:
        """Return the true foot points of every object, every `FINE_S` seconds."""
        found: dict[int, list[tuple[float, Place]]] = {}
        for step in range(int(seconds / FINE_S)):
            at = step * FINE_S
            for each in self.visible(at):
                left, right = max(0.0, each.box.left), min(float(WIDTH), each.box.right)
                found.setdefault(each.id, []).append((at, ((left + right) / 2 / WIDTH, each.box.bottom / HEIGHT)))
        return found


def _name(actor: Actor) -> str:
    return "car" if isinstance(actor.figure, Car) else "person"


def observe(scene: TrueScene, at: float, rng: random.Random, errors: DetectorErrors) -> Observation:
    """Return the result of a detector with `errors` for the scene at `at` seconds."""
    found = []
    for each in scene.visible(at):
        if rng.random() >= errors.misses:
            flipped = rng.random() < errors.flips
            name = FLIPS[each.name] if flipped else each.name
            found.append(_detection(name, _jittered(_clipped(each.box), rng, errors.jitter), rng.gauss(0.8, 0.1)))
        if rng.random() < errors.false_boxes:
            height = rng.uniform(60, 300)
            width = height * rng.choice((0.4, 2.0))
            left, top = rng.uniform(0, WIDTH - width), rng.uniform(0, HEIGHT - height)
            box = ObjectBox(left, top, left + width, top + height)
            found.append(_detection(rng.choice(list(PARENTS)), box, rng.uniform(0.1, 0.7)))
    return Observation(frame_id=f"{at:.3f}", at=at, width=WIDTH, height=HEIGHT, detections=tuple(found))


def _clipped(box: ObjectBox) -> ObjectBox:
    return ObjectBox(
        max(0.0, box.left), max(0.0, box.top), min(float(WIDTH), box.right), min(float(HEIGHT), box.bottom)
    )


def _jittered(box: ObjectBox, rng: random.Random, jitter: float) -> ObjectBox:
    width, height = box.right - box.left, box.bottom - box.top
    noise = [rng.gauss(0, jitter) for _ in range(4)]
    return ObjectBox(
        box.left + noise[0] * width,
        box.top + noise[1] * height,
        box.right + noise[2] * width,
        box.bottom + noise[3] * height,
    )


def _detection(name: str, box: ObjectBox, confidence: float) -> DetectedObject:
    return DetectedObject(name=name, parent=PARENTS[name], confidence=min(0.99, max(0.1, confidence)), box=box)


def true_visits(path: Sequence[tuple[float, Place]], polygon: Sequence[Place], least_s: float) -> int:
    """Return how many times a foot point stayed inside a polygon for at least `least_s` seconds.

    The function tests points by their winding number, so it shares no code or method with the product.
    """
    count, since, counted = 0, None, False
    for at, place in path:
        if _winding(place, polygon):
            since = at if since is None else since
            if not counted and at - since >= least_s:
                count, counted = count + 1, True
        else:
            since, counted = None, False
    return count


def true_crossings(path: Sequence[tuple[float, Place]], a: Place, b: Place) -> dict[str, int]:
    """Return how many times a foot point crossed the line in each direction."""
    counts = {"in": 0, "out": 0}
    places = [place for _, place in path if _side(a, b, place) != 0]
    for one, other in itertools.pairwise(places):
        before, after = _side(a, b, one), _side(a, b, other)
        if before * after < 0 and _side(one, other, a) * _side(one, other, b) <= 0:
            counts["in" if after > 0 else "out"] += 1
    return counts


def _side(a: Place, b: Place, point: Place) -> float:
    return (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])


def _winding(point: Place, polygon: Sequence[Place]) -> int:
    number = 0
    for one, other in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if one[1] <= point[1] < other[1] and _side(one, other, point) > 0:
            number += 1
        elif other[1] <= point[1] < one[1] and _side(one, other, point) < 0:
            number -= 1
    return number
