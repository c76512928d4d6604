"""Static background of a demo scene (sky, houses, trees, sidewalk and road), drawn once per clip.

The seed of the scene determines all random details, so the background is the same on every machine. Import this module
only after `nvision_hub.media.cv2_loader.load()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from workers.demo.figures import shaded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.demo.figures import Color, Image

WIDTH: Final = 1280
HEIGHT: Final = 720
_PAINT: Final = (214, 220, 222)  # color of road markings


class Canvas:
    def __init__(self, seed: int) -> None:
        self.image: Image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        self._random = np.random.default_rng(seed)

    def sky(self, top: Color, horizon: Color, bottom: int) -> None:
        """Draw the sky from the top to row `bottom` as a color gradient with soft clouds."""
        ramp = np.linspace(0, 1, bottom)[:, None, None]
        sky = (1 - ramp) * np.array(top) + ramp * np.array(horizon)
        veil = np.clip(self._clouds(bottom, (160.0, 34.0)) - 0.3, 0, 1.2)[:, :, None] * 42
        self.image[:bottom] = np.clip(sky + veil, 0, 255).astype(np.uint8)

    def ground(self, top: int, bottom: int, color: Color, grain: float = 4, joints: int | None = None) -> None:
        """Draw a band of ground with noise of `grain` levels.

        `joints` scales the paving stones; None means no stones.
        """
        noise = self._random.normal(0, grain, (bottom - top, WIDTH)).astype(np.float32)
        patches = self._clouds(bottom - top, (90.0, 18.0)) * grain * 1.2
        surface = np.array(color) + (cv2.GaussianBlur(noise, (0, 0), 0.9) * 1.6 + patches)[:, :, None]
        self.image[top:bottom] = np.clip(surface, 0, 255).astype(np.uint8)
        if joints is None:
            return
        line = shaded(color, 0.88)
        y, gap = float(top), joints * 0.5
        while y < bottom:  # rows of stones become taller toward the viewer
            cv2.line(self.image, (0, round(y)), (WIDTH, round(y)), line, 1, cv2.LINE_AA)
            y += gap
            gap *= 1.18
        for x in range(-WIDTH, 2 * WIDTH, joints * 5):
            cv2.line(self.image, (round(0.8 * x + 0.1 * WIDTH), top), (x, bottom), line, 1, cv2.LINE_AA)

    def houses(
        self, foot: int, heights: tuple[int, int], widths: tuple[int, int], walls: tuple[Color, ...], roof: Color
    ) -> None:
        """Draw houses side by side across the image, with their base on row `foot`.

        Their colors cycle through `walls`.
        """
        left, number = -30, 0
        while left < WIDTH:
            width, height = int(self._random.integers(*widths)), int(self._random.integers(*heights))
            self._house((left, foot - height, left + width, foot), walls[number % len(walls)], roof)
            left += width
            number += 1

    def tree(self, x: int, foot: int, height: int, leaves: Color) -> None:
        """Draw a tree with a trunk and a crown of overlapping disks, which are lighter toward the upper left."""
        cv2.line(self.image, (x, foot), (x, foot - height // 2), (52, 66, 84), max(3, height // 18), cv2.LINE_AA)
        spread = height * 0.2
        for _ in range(90):
            dx, dy = np.clip(self._random.normal(0, spread, 2), -1.6 * spread, 1.6 * spread)
            light = float(np.clip(0.9 + self._random.normal(0, 0.08) - (dx + dy) / (height * 1.6), 0.55, 1.2))
            center = round(x + dx), round(foot - height * 0.68 + dy * 0.85)
            cv2.circle(self.image, center, round(height * 0.09), shaded(leaves, light), cv2.FILLED, cv2.LINE_AA)

    def lamp(self, x: int, foot: int, height: int, arm: int) -> None:
        """Draw a street lamp whose arm extends `arm` pixels to the right (negative: to the left)."""
        metal, top = (78, 80, 78), foot - height
        cv2.line(self.image, (x, foot), (x, top), metal, max(3, height // 50), cv2.LINE_AA)
        cv2.line(self.image, (x, top), (x + arm, top - 8), metal, 3, cv2.LINE_AA)
        cv2.ellipse(self.image, (x + arm, top - 4), (14, 5), 0, 0, 360, (190, 214, 224), cv2.FILLED, cv2.LINE_AA)

    def dashes(self, y: int, thick: int, length: int, gap: int) -> None:
        for x in range(-length // 2, WIDTH, length + gap):
            self._rectangle(x, y, x + length, y + thick, _PAINT)

    def curb(self, y: int, thick: int) -> None:
        """Draw a curb: a light stripe above a dark one."""
        self._rectangle(0, y, WIDTH, y + thick // 2, (170, 172, 174))
        self._rectangle(0, y + thick // 2, WIDTH, y + thick, (96, 98, 100))

    def stripe(self, *corners: tuple[int, int]) -> None:
        """Draw a marking on the ground, such as one bar of a crosswalk."""
        cv2.fillPoly(self.image, [np.array(corners, np.int32)], _PAINT, cv2.LINE_AA)

    def _house(self, place: tuple[int, int, int, int], wall: Color, roof: Color) -> None:
        left, top, right, foot = place
        width = right - left
        self._rectangle(left, top, right, foot, wall)
        eaves = ((left - 6, top), (left + width // 5, top - 44), (right - width // 5, top - 44), (right + 6, top))
        cv2.fillPoly(self.image, [np.array(eaves, np.int32)], roof, cv2.LINE_AA)
        self._rectangle(left, foot - 16, right, foot, shaded(wall, 0.72))
        columns = max(2, width // 58)
        middles = [left + (2 * column + 1) * width // (2 * columns) for column in range(columns)]
        for story in range(max(1, (foot - top - 20) // 62)):
            for x in middles:
                y = top + 16 + story * 62
                glass = (150, 206, 232) if self._random.random() < 0.12 else (112, 98, 84)  # noqa: PLR2004 - some are lit
                self._rectangle(x - 14, y, x + 14, y + 36, (214, 218, 220))
                self._rectangle(x - 11, y + 3, x + 11, y + 33, glass)
                self._rectangle(x - 1, y + 3, x + 1, y + 33, (206, 210, 212))
                self._rectangle(x - 17, y + 36, x + 17, y + 39, (188, 192, 194))
        door = middles[int(self._random.integers(columns))]
        self._rectangle(door - 13, foot - 46, door + 13, foot, shaded(roof, 0.7))
        self._rectangle(left - 1, top, left + 1, foot, shaded(wall, 0.8))

    def _rectangle(self, left: int, top: int, right: int, bottom: int, color: Color) -> None:
        cv2.rectangle(self.image, (left, top), (right, bottom), color, cv2.FILLED)

    def _clouds(self, height: int, sizes: tuple[float, float]) -> NDArray[np.float32]:
        """Return smooth noise around 0. `sizes` are the width and height of its grain in pixels."""
        small = self._random.normal(0, 1, (max(2, round(height / sizes[1]) + 2), round(WIDTH / sizes[0]) + 2))
        resized = cv2.resize(small.astype(np.float32), (WIDTH, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(resized, np.float32)
