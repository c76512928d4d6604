"""Moving figures of a demo scene: a walking person and a driving car.

This module draws one figure at one moment into a BGR image. All lengths scale with the figure, so the figure looks the
same near and far. Import this module only after `nvision_hub.media.cv2_loader.load()`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

Color = tuple[int, int, int]  # blue, green, red
Point = tuple[float, float]  # distance forward and upward from the point on the ground below the figure's center

PERSON_M: Final = 1.75
_SHIFT: Final = 4  # coordinates are in sixteenths of a pixel, so slow figures move smoothly
_STEP_M: Final = 1.4  # distance that a person covers in two steps
_WHEEL_M: Final = 0.33
_TIRE: Final[Color] = (34, 32, 32)
_BODY: Final = ((-0.075, 0.82), (0.075, 0.82), (0.115, 0.77), (0.1, 0.6), (0.105, 0.42), (-0.105, 0.42), (-0.1, 0.6),
                (-0.115, 0.77))  # fmt: skip
_BACK: Final = ((-0.115, 0.77), (-0.05, 0.8), (-0.055, 0.42), (-0.105, 0.42))

# Outlines of a car's parts, in drawing order: color (None is the car's paint), brightness, and points. The first number
# of a point is a fraction of half the car's length, and the second number is a fraction of the car's height.
_CAR: Final[tuple[tuple[Color | None, float, tuple[Point, ...]], ...]] = (
    (None, 1.0, ((-0.98, 0.15), (0.98, 0.15), (1.0, 0.27), (0.97, 0.5), (0.55, 0.6), (0.28, 0.98), (0.12, 1.0),
                 (-0.42, 1.0), (-0.62, 0.95), (-0.9, 0.6), (-0.99, 0.55), (-1.0, 0.23))),
    (None, 0.6, ((-0.98, 0.15), (0.98, 0.15), (0.99, 0.24), (-0.99, 0.24))),  # sill
    ((96, 84, 70), 1.0, ((0.46, 0.6), (0.24, 0.92), (0.0, 0.92), (0.0, 0.6))),  # front window and its reflection
    ((96, 84, 70), 1.35, ((0.41, 0.6), (0.19, 0.92), (0.145, 0.92), (0.345, 0.6))),
    ((96, 84, 70), 1.0, ((-0.06, 0.6), (-0.06, 0.92), (-0.42, 0.92), (-0.58, 0.88), (-0.74, 0.6))),  # rear window
    ((96, 84, 70), 1.35, ((-0.11, 0.6), (-0.11, 0.92), (-0.155, 0.92), (-0.175, 0.6))),
    (None, 0.7, ((-0.03, 0.2), (-0.02, 0.6), (-0.04, 0.6), (-0.05, 0.2))),  # door
    (None, 1.25, ((-0.99, 0.52), (0.97, 0.47), (0.97, 0.5), (-0.99, 0.55))),  # crease
    ((205, 240, 250), 1.0, ((0.9, 0.42), (0.985, 0.4), (0.96, 0.5))),  # headlight
    ((46, 40, 190), 1.0, ((-0.995, 0.4), (-0.93, 0.42), (-0.96, 0.54))),  # taillight
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    coat: Color
    trousers: Color
    skin: Color = (140, 172, 224)
    hair: Color = (40, 52, 66)


@dataclass(frozen=True)
class Car:
    paint: Color
    length_m: float = 4.2
    height_m: float = 1.5


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Pose of a figure. `x` and `y` are the point on the ground below its center, in pixels."""

    x: float
    y: float
    pixels_per_m: float
    gone_m: float  # distance covered so far, which determines the positions of wheels and legs
    facing: int  # 1 for right, -1 for left


def draw_person(image: Image, person: Person, pose: Pose) -> None:
    """Draw an upright walking person with swinging legs and arms and an oval face."""
    phase = 2 * math.pi * pose.gone_m / _STEP_M
    swing, pass_by = math.sin(phase), math.cos(phase)
    lift = abs(pass_by) * 0.015  # the body rises while the legs pass each other
    sketch = _Sketch(image, pose, PERSON_M, lift)
    sketch.shadow(0.17, 0.035)
    for side, shade in ((-1, 0.72), (1, 1.0)):  # draw the far limbs first and in a darker shade
        stride = side * swing
        ankle = 0.15 * stride, 0.035 + 0.05 * max(0.0, side * pass_by) * (1 - abs(swing)) - lift
        knee = 0.075 * stride + 0.035 * (1 - abs(stride)), 0.26
        sketch.stroke(((0.0, 0.47), knee, ankle), shaded(person.trousers, shade), 0.088)
        sketch.stroke((ankle, (ankle[0] + 0.06, ankle[1] - 0.012)), _TIRE, 0.05)
        if side > 0:  # draw the body over the far arm and below the near arm
            sketch.polygon(_BODY, person.coat)
            sketch.polygon(_BACK, shaded(person.coat, 0.8))
        elbow, hand = (-0.08 * stride - 0.01, 0.62), (-0.17 * stride + 0.03, 0.49)
        sketch.stroke(((0.0, 0.78), elbow, hand), shaded(person.coat, min(shade, 0.86)), 0.06)
        sketch.oval((hand[0], 0.47), 0.032, 0.032, shaded(person.skin, shade))
    sketch.stroke(((0.0, 0.82), (0.0, 0.87)), shaded(person.skin, 0.85), 0.055)
    sketch.oval((-0.006, 0.932), 0.058, 0.072, person.hair)
    sketch.oval((0.006, 0.916), 0.05, 0.063, person.skin)
    for eye in (-0.013, 0.027):
        sketch.oval((eye, 0.926), 0.006, 0.006, (40, 40, 52))
    sketch.stroke(((-0.006, 0.885), (0.02, 0.885)), (96, 104, 172), 0.008)


def draw_car(image: Image, car: Car, pose: Pose) -> None:
    """Draw a car from the side: body, cabin, windows, lights and turning wheels."""
    sketch = _Sketch(image, pose)
    half = car.length_m / 2
    sketch.shadow(1.03 * half, 0.14)
    for color, brightness, outline in _CAR:
        points = tuple((along * half, up * car.height_m) for along, up in outline)
        sketch.polygon(points, shaded(color or car.paint, brightness))
    for axle in (-0.62 * half, 0.62 * half):
        center = axle, 0.94 * _WHEEL_M
        for share, color in ((1.0, _TIRE), (0.62, (168, 166, 164))):
            sketch.oval(center, share * _WHEEL_M, share * _WHEEL_M, color)
        for spoke in range(5):
            angle = spoke * 2 * math.pi / 5 - pose.gone_m / _WHEEL_M
            rim = axle + 0.55 * _WHEEL_M * math.cos(angle), center[1] + 0.55 * _WHEEL_M * math.sin(angle)
            sketch.stroke((center, rim), (92, 90, 90), 0.12 * _WHEEL_M)
        sketch.oval(center, 0.16 * _WHEEL_M, 0.16 * _WHEEL_M, (120, 118, 116))


class _Sketch:
    """Drawing surface for the shapes of one figure. Lengths are in units of `unit_m`.

    All shapes except the shadow are raised by `lift` units.
    """

    def __init__(self, image: Image, pose: Pose, unit_m: float = 1.0, lift: float = 0.0) -> None:
        self._image = image
        self._pose = pose
        self._unit = unit_m * pose.pixels_per_m
        self._lift = lift

    def polygon(self, points: tuple[Point, ...], color: Color) -> None:
        cv2.fillPoly(self._image, [self._fixed(points)], color, cv2.LINE_AA, _SHIFT)

    def stroke(self, points: tuple[Point, ...], color: Color, thick: float) -> None:
        thickness = max(1, round(thick * self._unit))
        cv2.polylines(self._image, [self._fixed(points)], False, color, thickness, cv2.LINE_AA, _SHIFT)  # noqa: FBT003

    def oval(self, center: Point, half_width: float, half_height: float, color: Color) -> None:
        (middle,) = self._fixed((center,)).tolist()
        axes = [max(8, round(half * self._unit * (1 << _SHIFT))) for half in (half_width, half_height)]
        cv2.ellipse(self._image, middle, axes, 0, 0, 360, color, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def shadow(self, half_width: float, half_height: float) -> None:
        pose, axes = self._pose, (round(half_width * self._unit), round(half_height * self._unit))
        top = max(0, int(pose.y) - axes[1] - 1)
        ground = self._image[top : int(pose.y) + axes[1] + 2]
        mask = np.zeros(ground.shape[:2], np.uint8)
        cv2.ellipse(mask, (round(pose.x), round(pose.y) - top), axes, 0, 0, 360, 255, cv2.FILLED, cv2.LINE_AA)
        cv2.copyTo(cv2.convertScaleAbs(ground, alpha=0.62), mask, ground)

    def _fixed(self, points: tuple[Point, ...]) -> NDArray[np.int32]:
        """Convert points to image coordinates as fixed-point numbers."""
        pose = self._pose
        scale = np.array([pose.facing * self._unit, -self._unit])
        pixels = np.array([pose.x, pose.y - self._lift * self._unit]) + np.array(points) * scale
        return np.asarray(np.rint(pixels * (1 << _SHIFT)), np.int32)


def shaded(color: Color, factor: float) -> Color:
    """Return `color` with its brightness multiplied by `factor`."""
    blue, green, red = (min(255, round(part * factor)) for part in color)
    return blue, green, red
