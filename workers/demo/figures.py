"""What moves in a demo picture: a walking person and a driving car, drawn where they stand.

Draws one figure at one moment into a BGR picture and knows nothing of paths, time or files. Measures are shares of a
person's height or metres at the figure's scale, so a figure is the same near and far. Import only after
`nvision_hub.opencv.load()`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    At = Callable[[float, float], tuple[float, float]]  # figure's measures to pixels

Colour = tuple[int, int, int]  # blue, green, red

PERSON_M: Final = 1.75
_SHIFT: Final = 4  # coordinates in sixteenths of a pixel: slow figures glide instead of hopping
_STEP_M: Final = 1.4  # two paces of a walker
_GLASS: Final[Colour] = (96, 84, 70)
_TYRE: Final[Colour] = (34, 32, 32)


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody's looks."""

    coat: Colour
    trousers: Colour
    skin: Colour = (140, 172, 224)
    hair: Colour = (40, 52, 66)


@dataclass(frozen=True, kw_only=True)
class Car:
    """A car's looks."""

    paint: Colour
    length_m: float = 4.2
    height_m: float = 1.5


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where a figure stands: the point on the ground under its middle, in pixels, and how big a metre is there."""

    x: float
    y: float
    pixels_per_m: float
    gone_m: float  # distance covered: turns wheels and swings legs
    facing: int  # 1 to the right, -1 to the left


def draw_person(picture: Picture, person: Person, pose: Pose) -> None:
    """A person walking: upright, legs and arms swinging, an oval face under the hair."""
    tall = PERSON_M * pose.pixels_per_m
    swing = math.sin(2 * math.pi * pose.gone_m / _STEP_M)
    lift = abs(math.cos(2 * math.pi * pose.gone_m / _STEP_M)) * 0.015  # the body rises as the legs pass each other
    _shadow(picture, pose.x, pose.y, 0.17 * tall, 0.035 * tall)

    def at(along: float, up: float) -> tuple[float, float]:
        return pose.x + pose.facing * along * tall, pose.y - (up + lift) * tall

    leg, arm = 0.088 * tall, 0.06 * tall
    for side, shade in ((-1, 0.72), (1, 1.0)):  # the far limbs first, and darker
        stride = side * swing
        ankle_up = 0.035 + 0.05 * max(0.0, side * math.cos(2 * math.pi * pose.gone_m / _STEP_M)) * (1 - abs(swing))
        hip, knee = at(0.0, 0.47), at(0.075 * stride + 0.035 * (1 - abs(stride)), 0.26)
        ankle = at(0.15 * stride, ankle_up - lift)
        _stroke(picture, (hip, knee, ankle), _shaded(person.trousers, shade), leg)
        _stroke(picture, (ankle, (ankle[0] + pose.facing * 0.06 * tall, ankle[1] + 0.012 * tall)), _TYRE, 0.05 * tall)
        if side < 0:
            _arm(picture, at, -stride, _shaded(person.coat, shade), arm)
            _disc(picture, at(-0.17 * stride + 0.03, 0.47), 0.032 * tall, _shaded(person.skin, shade))
    _body(picture, at, person.coat)
    _arm(picture, at, -swing, _shaded(person.coat, 0.86), arm)
    _disc(picture, at(-0.17 * swing + 0.03, 0.47), 0.032 * tall, person.skin)
    _head(picture, at, person, tall)


def draw_car(picture: Picture, car: Car, pose: Pose) -> None:
    """A car from its side: body, cabin, windows, lights and turning wheels."""
    scale = pose.pixels_per_m
    half, roof = car.length_m / 2, car.height_m
    _shadow(picture, pose.x, pose.y, half * 1.03 * scale, 0.14 * scale)

    def at(along_m: float, up_m: float) -> tuple[float, float]:
        return pose.x + pose.facing * along_m * scale, pose.y - up_m * scale

    def shape(outline: Sequence[tuple[float, float]], colour: Colour) -> None:
        _polygon(picture, [at(along, up) for along, up in outline], colour)

    belt = 0.6 * roof
    shape(
        [(-0.98 * half, 0.22), (0.98 * half, 0.22), (half, 0.4), (0.97 * half, 0.5 * roof), (0.55 * half, belt),
         (0.28 * half, 0.98 * roof), (0.12 * half, roof), (-0.42 * half, roof), (-0.62 * half, 0.95 * roof),
         (-0.9 * half, belt), (-0.99 * half, 0.55 * roof), (-half, 0.35)],
        car.paint,
    )  # fmt: skip
    shape(
        [(-0.98 * half, 0.22), (0.98 * half, 0.22), (0.99 * half, 0.36), (-0.99 * half, 0.36)], _shaded(car.paint, 0.6)
    )
    front = [(0.46 * half, belt), (0.24 * half, 0.92 * roof), (0.0, 0.92 * roof), (0.0, belt)]
    rear = [(-0.06 * half, belt), (-0.06 * half, 0.92 * roof), (-0.42 * half, 0.92 * roof), (-0.58 * half, 0.88 * roof),
            (-0.74 * half, belt)]  # fmt: skip
    for pane in (front, rear):
        shape(pane, _GLASS)
        (a, low), (b, high) = pane[0], pane[1]
        shape([(a - 0.1, low), (b - 0.1, high), (b - 0.2, high), (a - 0.24, low)], _shaded(_GLASS, 1.35))
    shape(
        [(-0.03 * half, 0.3), (-0.02 * half, belt), (-0.04 * half, belt), (-0.05 * half, 0.3)], _shaded(car.paint, 0.7)
    )
    crease = [
        (-0.99 * half, 0.52 * roof),
        (0.97 * half, 0.47 * roof),
        (0.97 * half, 0.5 * roof),
        (-0.99 * half, 0.55 * roof),
    ]
    shape(crease, _shaded(car.paint, 1.25))
    shape([(0.9 * half, 0.42 * roof), (0.985 * half, 0.4 * roof), (0.96 * half, 0.5 * roof)], (205, 240, 250))
    shape([(-0.995 * half, 0.4 * roof), (-0.93 * half, 0.42 * roof), (-0.96 * half, 0.54 * roof)], (46, 40, 190))
    for axle in (-0.62 * half, 0.62 * half):
        _wheel(picture, at(axle, 0.31), 0.33 * scale, pose.facing * pose.gone_m / 0.33)


def _arm(picture: Picture, at: At, swing: float, colour: Colour, thick: float) -> None:
    _stroke(picture, (at(0.0, 0.78), at(0.08 * swing - 0.01, 0.62), at(0.17 * swing + 0.03, 0.49)), colour, thick)


def _body(picture: Picture, at: At, coat: Colour) -> None:
    outline = [(-0.075, 0.82), (0.075, 0.82), (0.115, 0.77), (0.1, 0.6), (0.105, 0.42), (-0.105, 0.42), (-0.1, 0.6),
               (-0.115, 0.77)]  # fmt: skip
    _polygon(picture, [at(along, up) for along, up in outline], coat)
    _polygon(
        picture, [at(*p) for p in ((-0.115, 0.77), (-0.05, 0.8), (-0.055, 0.42), (-0.105, 0.42))], _shaded(coat, 0.8)
    )


def _head(picture: Picture, at: At, person: Person, tall: float) -> None:
    _stroke(picture, (at(0.0, 0.82), at(0.0, 0.87)), _shaded(person.skin, 0.85), 0.055 * tall)
    _oval(picture, at(-0.006, 0.932), 0.058 * tall, 0.072 * tall, person.hair)
    _oval(picture, at(0.006, 0.916), 0.05 * tall, 0.063 * tall, person.skin)
    for eye in (-0.013, 0.027):
        _disc(picture, at(eye, 0.926), max(0.5, 0.006 * tall), (40, 40, 52))
    _stroke(picture, (at(-0.006, 0.885), at(0.02, 0.885)), (96, 104, 172), 0.008 * tall)


def _wheel(picture: Picture, centre: tuple[float, float], radius: float, turned: float) -> None:
    _disc(picture, centre, radius, _TYRE)
    _disc(picture, centre, 0.62 * radius, (168, 166, 164))
    for spoke in range(5):
        angle = turned + spoke * 2 * math.pi / 5
        rim = centre[0] + 0.55 * radius * math.cos(angle), centre[1] + 0.55 * radius * math.sin(angle)
        _stroke(picture, (centre, rim), (92, 90, 90), 0.12 * radius)
    _disc(picture, centre, 0.16 * radius, (120, 118, 116))


def _shadow(picture: Picture, x: float, y: float, half_width: float, half_height: float) -> None:
    height, width = picture.shape[:2]
    left, right = max(0, int(x - half_width) - 1), min(width, int(x + half_width) + 2)
    top, bottom = max(0, int(y - half_height) - 1), min(height, int(y + half_height) + 2)
    if left >= right or top >= bottom:
        return
    ground = picture[top:bottom, left:right]
    mask = np.zeros(ground.shape[:2], np.uint8)
    cv2.ellipse(
        mask,
        (_fixed(x - left), _fixed(y - top)),
        (_fixed(half_width), _fixed(half_height)),
        0, 0, 360, 255, cv2.FILLED, cv2.LINE_AA, _SHIFT,
    )  # fmt: skip
    dark = cv2.convertScaleAbs(ground, alpha=0.62)
    cv2.copyTo(dark, mask, ground)


def _polygon(picture: Picture, points: Sequence[tuple[float, float]], colour: Colour) -> None:
    corners = np.array([(_fixed(x), _fixed(y)) for x, y in points], np.int32)
    cv2.fillPoly(picture, [corners], colour, cv2.LINE_AA, _SHIFT)


def _stroke(picture: Picture, points: Sequence[tuple[float, float]], colour: Colour, thick: float) -> None:
    corners = np.array([(_fixed(x), _fixed(y)) for x, y in points], np.int32)
    cv2.polylines(picture, [corners], isClosed=False, color=colour, thickness=max(1, round(thick)),
                  lineType=cv2.LINE_AA, shift=_SHIFT)  # fmt: skip


def _disc(picture: Picture, centre: tuple[float, float], radius: float, colour: Colour) -> None:
    _oval(picture, centre, radius, radius, colour)


def _oval(picture: Picture, centre: tuple[float, float], half_width: float, half_height: float, colour: Colour) -> None:
    middle = _fixed(centre[0]), _fixed(centre[1])
    axes = _fixed(half_width), _fixed(half_height)
    cv2.ellipse(picture, middle, axes, 0, 0, 360, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _fixed(pixels: float) -> int:
    return round(pixels * (1 << _SHIFT))


def _shaded(colour: Colour, factor: float) -> Colour:
    blue, green, red = (min(255, round(part * factor)) for part in colour)
    return blue, green, red
