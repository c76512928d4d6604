"""A small street to look at: pictures with figures at known places, drawn as the tests of detection need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

SKIN = (120, 160, 215)  # blue green red


@dataclass(frozen=True, kw_only=True)
class Person:
    x: int  # of the middle
    feet: int
    tall: int
    coat: tuple[int, int, int] = (40, 40, 160)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        half = self.tall // 6
        return self.x - half, self.feet - self.tall, self.x + half, self.feet


@dataclass(frozen=True, kw_only=True)
class Car:
    x: int  # of the left edge
    wheels: int
    long: int
    paint: tuple[int, int, int] = (190, 60, 30)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        return self.x, self.wheels - self.long // 2, self.x + self.long, self.wheels


def street(*things: Person | Car, width: int = 960, height: int = 540, noise: float = 4.0, seed: int = 0) -> Pixels:
    """One picture of the street; `noise` is a sensor's, as a standard deviation, and differs with `seed`."""
    picture = np.full((height, width, 3), (200, 170, 140), np.uint8)
    cv2.rectangle(picture, (0, height * 2 // 5), (width, height), (95, 95, 95), -1)
    for left in range(0, width, width // 6):
        cv2.rectangle(picture, (left + 10, height // 8), (left + width // 8, height * 2 // 5), (150, 125, 110), -1)
        cv2.rectangle(picture, (left, height * 7 // 10), (left + width // 12, height * 7 // 10 + 8), (230,) * 3, -1)
    for thing in things:
        if isinstance(thing, Person):
            _draw_person(picture, thing)
        else:
            _draw_car(picture, thing)
    if noise == 0:
        return picture
    grain = np.random.default_rng(seed).normal(0, noise, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def _draw_person(picture: Pixels, person: Person) -> None:
    left, top, right, bottom = person.box
    tall, half = person.tall, (right - left) // 2
    head = tall // 8
    cv2.rectangle(picture, (left, top + 2 * head), (right, top + tall * 5 // 9), person.coat, -1)
    cv2.rectangle(picture, (left + half // 4, top + tall // 2), (person.x - 2, bottom), (60, 50, 40), -1)
    cv2.rectangle(picture, (person.x + 2, top + tall // 2), (right - half // 4, bottom), (60, 50, 40), -1)
    cv2.ellipse(picture, (person.x, top + head), (head * 3 // 4, head), 0, 0, 360, SKIN, -1)


def _draw_car(picture: Pixels, car: Car) -> None:
    left, top, right, bottom = car.box
    wheel = car.long // 10
    cv2.rectangle(picture, (left, (top + bottom) // 2), (right, bottom - wheel), car.paint, -1)
    cv2.rectangle(picture, (left + car.long // 5, top), (right - car.long // 5, bottom - wheel), car.paint, -1)
    for x in (left + 2 * wheel, right - 2 * wheel):
        cv2.circle(picture, (x, bottom - wheel), wheel, (20, 20, 20), -1)


def as_jpeg(picture: Pixels) -> bytes:
    """The picture as a camera would send it."""
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
