"""Synthetic people and cars for developing the tracker, and a detector with known errors.

They move, stop and turn on a plane that a camera sees in perspective. If a person is behind another person or a post,
the detector misses the person or cuts off the box, like a real detector. None of this is fitted to the footage on which
the tracker is evaluated.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.support.track_data import Xywh

WIDTH: Final = 1280
HEIGHT: Final = 720
STEP_S: Final = 0.05
MARGIN: Final = 100.0  # distance outside the image at which objects appear and disappear
LONG_MISS_S: Final = 1.5
HIDDEN_SHARE: Final = 0.65  # the detector misses a person of whom others hide a larger fraction
PERSON_M: Final = (0.7, 1.75)  # width and height in meters
CAR_M: Final = (4.2, 1.5)
CAR_SHARE: Final = 0.2

Real = list[tuple[int, "Xywh"]]


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Errors of the detector. Shares are from 0 to 1. `jitter` is a fraction of the box."""

    misses: float = 0.15
    long_misses: float = 0.06  # fraction of the periods of `LONG_MISS_S` in which a person is not detected at all
    doubles: float = 0.03  # second, shifted box for the same person
    false_boxes: float = 0.05
    jitter: float = 0.05


class _Walker:
    def __init__(self, identity: int, rng: random.Random, horizon: float) -> None:
        self.identity, self._rng = identity, rng
        self.is_car = rng.random() < CAR_SHARE
        self.meters = CAR_M if self.is_car else PERSON_M
        self.y = rng.uniform(horizon + 0.25 * (HEIGHT - horizon), HEIGHT * 0.98)
        self._right = rng.random() < 0.5
        self.x = -MARGIN if self._right else WIDTH + MARGIN
        self._turn()

    def _turn(self) -> None:
        speed = self._rng.gauss(7, 3) if self.is_car else self._rng.gauss(1.3, 0.3)
        if self._rng.random() < 0.15:
            speed = 0.0
        angle = self._rng.gauss(0, 0.1 if self.is_car else 0.35)
        across = math.cos(angle) if self._right else -math.cos(angle)
        self._vx, self._vy = speed * across, 0.35 * speed * math.sin(angle)
        self._turns_in = self._rng.expovariate(1 / 4)
        if self._rng.random() < 0.05:
            self._right = not self._right

    def move(self, scale: float, horizon: float) -> None:
        self._turns_in -= STEP_S
        if self._turns_in <= 0:
            self._turn()
        self.x += self._vx * scale * STEP_S
        self.y = min(HEIGHT * 1.02, max(horizon + 0.2 * (HEIGHT - horizon), self.y + self._vy * scale * STEP_S))


def walk(seed: int, seconds: float, people: float, *, low: bool = False) -> list[tuple[float, Real]]:
    """Return (time, real boxes from near to far) every `STEP_S` seconds. `people` is the mean number in the image.

    With `low`, the camera looks along the ground, so people are large and hide each other.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation
    horizon, near = (
        (rng.uniform(200, 320), rng.uniform(200, 320)) if low else (rng.uniform(-200, 150), rng.uniform(90, 160))
    )
    walkers: list[_Walker] = []
    frames: list[tuple[float, Real]] = []
    count = 0
    for step in range(int(seconds / STEP_S)):
        if rng.random() < people * STEP_S / 10:  # a person stays about ten seconds
            count += 1
            walkers.append(_Walker(count, rng, horizon))
        boxes: Real = []
        for walker in sorted(walkers, key=lambda each: -each.y):
            scale = near * (walker.y - horizon) / (HEIGHT - horizon)  # pixels per meter
            walker.move(scale, horizon)
            width, height = (meters * scale for meters in walker.meters)
            boxes.append((walker.identity, (walker.x - width / 2, walker.y - height, width, height)))
        walkers = [each for each in walkers if -2 * MARGIN < each.x < WIDTH + 2 * MARGIN]
        frames.append((step * STEP_S, [each for each in boxes if _inside(each[1]) > 0.4]))
    return frames


def detect(
    real: Real, at: float, rng: random.Random, errors: Errors, post_x: float | None = None
) -> list[tuple[Xywh, float]]:
    """Return boxes and confidences that a detector reports for `real`, which is ordered from near to far.

    A post at column `post_x` also hides people.
    """
    found: list[tuple[Xywh, float]] = []
    nearer: list[Xywh] = [] if post_x is None else [(post_x - 25, 0, 50, HEIGHT)]
    for identity, box in real:
        left, top, width, height = box
        period = random.Random(identity * 100_003 + int(at / LONG_MISS_S))  # noqa: S311 - a simulation
        hidden = max((_covered(box, other) for other in nearer), default=0.0)
        nearer.append(box)
        if hidden > HIDDEN_SHARE or rng.random() < errors.misses + 0.5 * hidden:
            continue
        if period.random() < errors.long_misses:
            continue
        if hidden > 0.3 and rng.random() < 0.5:
            height *= 1 - hidden / 2  # the legs are hidden
        left, top, right, bottom = max(0, left), max(0, top), min(WIDTH, left + width), min(HEIGHT, top + height)
        width, height = right - left, bottom - top
        noise = [rng.gauss(0, errors.jitter) for _ in range(4)]
        seen = (left + noise[0] * width, top + noise[1] * height, width * (1 + noise[2]), height * (1 + noise[3]))
        found.append((seen, min(0.99, max(0.1, rng.gauss(0.85 - 0.4 * hidden, 0.12)))))
        if rng.random() < errors.doubles:
            shifted = (seen[0] + rng.uniform(-0.4, 0.4) * width, seen[1] + rng.uniform(-0.2, 0.2) * height, *seen[2:])
            found.append((shifted, rng.uniform(0.2, 0.7)))
    for _ in range(len(real)):
        if rng.random() < errors.false_boxes:
            height = rng.uniform(60, 300)
            box = (rng.uniform(0, WIDTH - 0.4 * height), rng.uniform(0, HEIGHT - height), 0.4 * height, height)
            found.append((box, rng.uniform(0.1, 0.7)))
    return found


def _inside(box: Xywh) -> float:
    return _covered(box, (0, 0, WIDTH, HEIGHT))


def _covered(box: Xywh, other: Xywh) -> float:
    """Return the fraction of `box` that `other` covers."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(0.0, width) * max(0.0, height) / (box[2] * box[3])
