"""Moving objects of one source: what differs from its learned background, named by its shape.

Nothing to download and nothing to train, and honest about it: a thing that stands still is not found, two that
touch are one, and `person` or `car` says no more than upright or wide. An ONNX model knows classes; see yolo.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from workers.service.detections import Detection, box_within, surest_first
from workers.service.pictures import reduced

if TYPE_CHECKING:
    import numpy.typing as npt

    from workers.service.pictures import Pixels

    Mask = npt.NDArray[np.uint8]

LONGEST_SIDE: Final = 400  # motion needs no more, and it bounds the cost of a picture to a few milliseconds
WARM_UP_PICTURES: Final = 2  # what stood in the first picture leaves a hole in the background until two others came
FORGET_S: Final = 60.0  # something new that stands still is background after about a third of this
YOUNG_FORGET_S: Final = 10.0  # the same in the first seconds; it grows to the other as the background ages
EVEN_PICTURES: Final = 8
BACKGROUND_SHARE: Final = 0.7  # of a pixel's recent past; what explains it counts as background
PASTS: Final = 3  # colours remembered of a pixel; at 60 bytes a pixel and picture size, 5 MB a source
SENSITIVITY: Final = 25.0  # squared distance, in a pixel's own variances, from which it is foreground
SCENE_CHANGE_SHARE: Final = 0.6  # more of the picture than this does not move: the camera turned, or its light did
SMALLEST_SHARE: Final = 0.0005  # of the picture; smaller things are leaves and sensor noise
SMALLEST_SIDE: Final = 4  # pixels of the reduced picture

UPRIGHT: Final = 1.25  # height over width from which a thing counts as a person
WIDE: Final = 1.2  # width over height from which it counts as a vehicle
STRIP: Final = 5.0  # and from which it is too flat for one: a banner, a clock burnt into the picture

# What a clear sighting measures: it differs from the background by this much (of 255), fills this much of its box,
# and is this many times the smallest. Each part of the confidence is full there.
_CLEAR_CONTRAST: Final = 60.0
_CLEAR_FILL: Final = 0.6
_CLEAR_SIZE: Final = 8.0

_SPECKS: Final = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
# Taller than wide: it joins head, trunk and legs of one figure sooner than it joins two figures side by side.
_GAPS: Final = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 7))
_FOREGROUND: Final = 255  # MOG2 marks shadows with 127


class MovingObjects:
    """One source's background, and what stands out from it. Not for several threads at once."""

    def __init__(self) -> None:
        self._size = (0, 0)
        self._restart((0, 0))

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:
        """What moved since the pictures before; see `Detector`. Empty while the background is being learned."""
        small, factor = reduced(pixels, LONGEST_SIDE)
        height, width = small.shape[:2]
        if (width, height) != self._size:
            self._restart((width, height))
        mask = self._learn(small, at)
        if self._pictures <= WARM_UP_PICTURES:
            return []
        if np.count_nonzero(mask) > SCENE_CHANGE_SHARE * mask.size:
            self._restart((width, height))
            self._learn(small, at)
            return []
        whole = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _SPECKS), cv2.MORPH_CLOSE, _GAPS)
        outlines, _ = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if not outlines:
            return []
        difference = cv2.absdiff(small, self._background.getBackgroundImage()).max(axis=2)
        found = []
        for outline in outlines:
            x, y, w, h = cv2.boundingRect(outline)
            if min(w, h) < SMALLEST_SIDE or cv2.contourArea(outline) < SMALLEST_SHARE * mask.size:
                continue
            inside = slice(y, y + h), slice(x, x + w)
            confidence = _confidence(mask[inside], difference[inside], SMALLEST_SHARE * mask.size)
            box = box_within(
                x * factor,
                y * factor,
                (x + w) * factor,
                (y + h) * factor,
                width=pixels.shape[1],
                height=pixels.shape[0],
            )
            if box is not None and confidence >= threshold:
                name, parent = _shape(w, h)
                found.append(Detection(name=name, parent=parent, confidence=confidence, box=box))
        return surest_first(found)

    def _restart(self, size: tuple[int, int]) -> None:
        self._size = size
        self._pictures = 0
        self._first_at = self._last_at = 0.0
        self._background = cv2.createBackgroundSubtractorMOG2(varThreshold=SENSITIVITY, detectShadows=True)
        self._background.setBackgroundRatio(BACKGROUND_SHARE)
        self._background.setNMixtures(PASTS)

    def _learn(self, small: Pixels, at: float) -> Mask:
        """Learn one picture; what of it is foreground (0 or 255).

        The rate follows the time that passed, not the number of pictures, so that a source of one picture in two
        seconds forgets as fast as one of five a second. The first pictures count evenly, to learn at once, and a
        young background forgets sooner, since it may have taken what only waited for scenery.
        """
        if not self._pictures:
            self._first_at = self._last_at = at
        forget_s = min(max(at - self._first_at, YOUNG_FORGET_S), FORGET_S)
        rate = 1 - math.exp(-(at - self._last_at) / forget_s)
        if self._pictures < EVEN_PICTURES:
            rate = max(rate, 1 / (self._pictures + 1))
        self._pictures += 1
        self._last_at = at
        marked = self._background.apply(small, learningRate=rate)
        return np.where(marked == _FOREGROUND, np.uint8(_FOREGROUND), np.uint8(0))


def _shape(width: int, height: int) -> tuple[str, str]:
    """Class and parent of a thing of that outline."""
    if height >= UPRIGHT * width:
        return "person", "human"
    if WIDE * height <= width < STRIP * height:
        return "car", "vehicle"
    return "object", "object"


def _confidence(mask: Mask, difference: Mask, smallest: float) -> float:
    """How sure a sighting is, from what was measured in its box: contrast above all, then fill and size."""
    area = int(np.count_nonzero(mask))
    if not area:
        return 0.0  # the outline is all gap, closed between specks
    contrast = float(difference[mask > 0].mean()) / _CLEAR_CONTRAST
    fill = area / mask.size / _CLEAR_FILL
    size = area / smallest / _CLEAR_SIZE
    return round(0.99 * (0.5 * min(contrast, 1.0) + 0.25 * min(fill, 1.0) + 0.25 * min(size, 1.0)), 4)
