"""What stands still in a demo picture: sky, houses, trees, pavement and road, drawn once per clip.

Knows nothing of what moves in front of it. Random details come from the scene's own seed, so a scene looks the same
on every machine. Import only after `nvision_hub.opencv.load()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.demo.figures import Colour

    Picture = NDArray[np.uint8]

WIDTH: Final = 1280
HEIGHT: Final = 720


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A band of the ground from `top` to `bottom` (rows): one colour, with grain of that strength (levels)."""

    top: int
    bottom: int
    colour: Colour
    grain: float


@dataclass(frozen=True, kw_only=True)
class Palette:
    """A scene's colours: sky from the top down to the roofs, and the walls its houses take turns in."""

    sky: tuple[Colour, Colour]
    walls: tuple[Colour, ...]
    roof: Colour
    leaves: Colour


class Canvas:
    """A picture in the making."""

    def __init__(self, seed: int) -> None:
        self.picture: Picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        self._random = np.random.default_rng(seed)

    def sky(self, colours: tuple[Colour, Colour], bottom: int) -> None:
        """A gradient from the top down to the row `bottom`, with some soft clouds."""
        ramp = np.linspace(0, 1, bottom)[:, None, None]
        sky = (1 - ramp) * np.array(colours[0]) + ramp * np.array(colours[1])
        clouds = self._clouds(bottom, WIDTH, (160.0, 34.0))
        veil = np.clip(clouds - 0.3, 0, 1.2)[:, :, None] * 42
        self.picture[:bottom] = np.clip(sky + veil, 0, 255).astype(np.uint8)

    def ground(self, band: Ground) -> None:
        """A band of asphalt, paving or grass."""
        height = band.bottom - band.top
        grain = self._random.normal(0, band.grain, (height, WIDTH)).astype(np.float32)
        patches = self._clouds(height, WIDTH, (90.0, 18.0)) * band.grain * 1.2
        surface = np.array(band.colour) + (cv2.GaussianBlur(grain, (0, 0), 0.9) * 1.6 + patches)[:, :, None]
        self.picture[band.top : band.bottom] = np.clip(surface, 0, 255).astype(np.uint8)

    def houses(self, palette: Palette, foot: int, heights: tuple[int, int], widths: tuple[int, int]) -> None:
        """A row of houses from edge to edge, standing on the row `foot`."""
        left, number = -30, 0
        while left < WIDTH:
            width = int(self._random.integers(*widths))
            height = int(self._random.integers(*heights))
            wall = palette.walls[number % len(palette.walls)]
            self._house((left, foot - height, width, height), wall, palette.roof)
            left += width
            number += 1

    def tree(self, x: int, foot: int, height: int, leaves: Colour) -> None:
        """A tree: trunk and a crown of overlapping leaves, lighter towards the upper left."""
        cv2.line(self.picture, (x, foot), (x, foot - height // 2), (52, 66, 84), max(3, height // 18), cv2.LINE_AA)
        spread = height * 0.2
        for _ in range(90):
            dx, dy = np.clip(self._random.normal(0, spread, 2), -1.6 * spread, 1.6 * spread)
            light = float(np.clip(0.9 + self._random.normal(0, 0.08) - (dx + dy) / (height * 1.6), 0.55, 1.2))
            colour = tuple(int(np.clip(part * light, 0, 255)) for part in leaves)
            centre = round(x + dx), round(foot - height * 0.68 + dy * 0.85)
            cv2.circle(self.picture, centre, round(height * 0.09), colour, cv2.FILLED, cv2.LINE_AA)

    def lamp(self, x: int, foot: int, height: int, arm: int) -> None:
        """A street lamp, its arm reaching `arm` pixels to the right (negative: to the left)."""
        metal = (78, 80, 78)
        top = foot - height
        cv2.line(self.picture, (x, foot), (x, top), metal, max(3, height // 50), cv2.LINE_AA)
        cv2.line(self.picture, (x, top), (x + arm, top - 8), metal, 3, cv2.LINE_AA)
        cv2.ellipse(self.picture, (x + arm, top - 4), (14, 5), 0, 0, 360, (190, 214, 224), cv2.FILLED, cv2.LINE_AA)

    def rows(self, top: int, bottom: int, step: int, colour: Colour) -> None:
        """Joints of paving: rows that widen towards the viewer, crossed by slanting lines."""
        y, gap = float(top), step * 0.5
        while y < bottom:
            cv2.line(self.picture, (0, round(y)), (WIDTH, round(y)), colour, 1, cv2.LINE_AA)
            y += gap
            gap *= 1.18
        for x in range(-WIDTH, 2 * WIDTH, step * 5):
            far = round(WIDTH / 2 + (x - WIDTH / 2) * 0.8)
            cv2.line(self.picture, (far, top), (x, bottom), colour, 1, cv2.LINE_AA)

    def dashes(self, y: int, thick: int, length: int, gap: int, colour: Colour = (206, 212, 214)) -> None:
        """A broken line along the road."""
        for x in range(-length // 2, WIDTH, length + gap):
            cv2.rectangle(self.picture, (x, y), (x + length, y + thick), colour, cv2.FILLED)

    def kerb(self, y: int, thick: int) -> None:
        """The edge of a pavement: light on top, dark at the side that faces the road."""
        cv2.rectangle(self.picture, (0, y), (WIDTH, y + thick // 2), (170, 172, 174), cv2.FILLED)
        cv2.rectangle(self.picture, (0, y + thick // 2), (WIDTH, y + thick), (96, 98, 100), cv2.FILLED)

    def stripe(self, corners: tuple[tuple[int, int], ...], colour: Colour = (214, 220, 222)) -> None:
        """A painted shape on the ground: a bar of a crossing, the edge of a bay."""
        cv2.fillPoly(self.picture, [np.array(corners, np.int32)], colour, cv2.LINE_AA)

    def _house(self, place: tuple[int, int, int, int], wall: Colour, roof: Colour) -> None:
        left, top, width, height = place
        foot = top + height
        cv2.rectangle(self.picture, (left, top), (left + width, foot), wall, cv2.FILLED)
        eaves = np.array([(left - 6, top), (left + width // 5, top - 44), (left + width * 4 // 5, top - 44),
                          (left + width + 6, top)], np.int32)  # fmt: skip
        cv2.fillPoly(self.picture, [eaves], roof, cv2.LINE_AA)
        cv2.rectangle(self.picture, (left, foot - 16), (left + width, foot), _darker(wall, 0.72), cv2.FILLED)
        columns, storeys = max(2, width // 58), max(1, (height - 20) // 62)
        for storey in range(storeys):
            for column in range(columns):
                x = left + (2 * column + 1) * width // (2 * columns)
                y = top + 16 + storey * 62
                self._window(x, y, lit=bool(self._random.random() < 0.12))  # noqa: PLR2004 - one window in eight
        door = left + (2 * int(self._random.integers(columns)) + 1) * width // (2 * columns)
        cv2.rectangle(self.picture, (door - 13, foot - 46), (door + 13, foot), _darker(roof, 0.7), cv2.FILLED)
        cv2.line(self.picture, (left, top), (left, foot), _darker(wall, 0.8), 2)

    def _window(self, x: int, y: int, *, lit: bool) -> None:
        glass = (150, 206, 232) if lit else (112, 98, 84)
        cv2.rectangle(self.picture, (x - 14, y), (x + 14, y + 36), (214, 218, 220), cv2.FILLED)
        cv2.rectangle(self.picture, (x - 11, y + 3), (x + 11, y + 33), glass, cv2.FILLED)
        cv2.line(self.picture, (x, y + 3), (x, y + 33), (206, 210, 212), 2)
        cv2.rectangle(self.picture, (x - 17, y + 36), (x + 17, y + 39), (188, 192, 194), cv2.FILLED)

    def _clouds(self, height: int, width: int, sizes: tuple[float, float]) -> NDArray[np.float32]:
        """Smooth noise of unit strength, its grain as wide and as high as `sizes` (pixels)."""
        small = self._random.normal(0, 1, (max(2, round(height / sizes[1]) + 2), round(width / sizes[0]) + 2))
        return np.asarray(
            cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC), np.float32
        )


def _darker(colour: Colour, factor: float) -> Colour:
    blue, green, red = (round(part * factor) for part in colour)
    return blue, green, red
