"""Images of a street with figures at known positions, for tests of detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

SKIN = (120, 160, 215)  # blue, green, red


@dataclass(frozen=True, kw_only=True)
class Person:
    x: int  # column of the center
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
    x: int  # column of the left edge
    wheels: int
    long: int
    paint: tuple[int, int, int] = (190, 60, 30)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        return self.x, self.wheels - self.long // 2, self.x + self.long, self.wheels


def street(*figures: Person | Car, width: int = 960, height: int = 540, noise: float = 4.0, seed: int = 0) -> Pixels:
    """Draw one image. `noise` is the standard deviation of the sensor noise. `seed` determines the noise."""
    image = np.full((height, width, 3), (200, 170, 140), np.uint8)
    cv2.rectangle(image, (0, height * 2 // 5), (width, height), (95, 95, 95), -1)
    for left in range(0, width, width // 6):
        cv2.rectangle(image, (left + 10, height // 8), (left + width // 8, height * 2 // 5), (150, 125, 110), -1)
        cv2.rectangle(image, (left, height * 7 // 10), (left + width // 12, height * 7 // 10 + 8), (230,) * 3, -1)
    for figure in figures:
        if isinstance(figure, Person):
            _draw_person(image, figure)
        else:
            _draw_car(image, figure)
    if noise == 0:
        return image
    grain = np.random.default_rng(seed).normal(0, noise, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _draw_person(image: Pixels, person: Person) -> None:
    left, top, right, bottom = person.box
    tall, half = person.tall, (right - left) // 2
    head = tall // 8
    cv2.rectangle(image, (left, top + 2 * head), (right, top + tall * 5 // 9), person.coat, -1)
    cv2.rectangle(image, (left + half // 4, top + tall // 2), (person.x - 2, bottom), (60, 50, 40), -1)
    cv2.rectangle(image, (person.x + 2, top + tall // 2), (right - half // 4, bottom), (60, 50, 40), -1)
    cv2.ellipse(image, (person.x, top + head), (head * 3 // 4, head), 0, 0, 360, SKIN, -1)


def _draw_car(image: Pixels, car: Car) -> None:
    left, top, right, bottom = car.box
    wheel = car.long // 10
    cv2.rectangle(image, (left, (top + bottom) // 2), (right, bottom - wheel), car.paint, -1)
    cv2.rectangle(image, (left + car.long // 5, top), (right - car.long // 5, bottom - wheel), car.paint, -1)
    for x in (left + 2 * wheel, right - 2 * wheel):
        cv2.circle(image, (x, bottom - wheel), wheel, (20, 20, 20), -1)


def as_jpeg(image: Pixels) -> bytes:
    """Encode the image as JPEG, like a camera."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
