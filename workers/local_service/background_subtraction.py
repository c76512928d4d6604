"""Detector of moving objects in one source, based on background subtraction (MOG2).

The detector needs no model. It misses static objects, and merges objects that touch each other. It does not classify
objects: the class of every object is `moving`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from workers.local_service.detection_types import Detection, by_confidence, detection_at
from workers.local_service.images import downscale

if TYPE_CHECKING:
    import numpy.typing as npt

    from workers.local_service.images import Pixels

    Mask = npt.NDArray[np.uint8]

MAX_SIDE: Final = 400  # pixels; enough to detect motion, and processing one image takes only a few milliseconds
WARM_UP_IMAGES: Final = 2  # the first images yield no detections, because objects in them distort the background
FORGET_S: Final = 60.0  # a new static object becomes background after about a third of this time
YOUNG_FORGET_S: Final = 10.0  # for a new background; increases to FORGET_S as the background ages
EQUAL_WEIGHT_IMAGES: Final = 8
# The most frequent colors of a pixel are background if together they account for this share.
BACKGROUND_SHARE: Final = 0.7
MIXTURES: Final = 3  # colors per pixel; at 60 bytes per pixel, a source needs 5 MB of memory
SENSITIVITY: Final = 25.0  # minimum squared distance from the background, in variances of the pixel
SCENE_CHANGE_SHARE: Final = 0.6  # fraction of the image; more foreground means that the camera or the light has changed
MIN_AREA_SHARE: Final = 0.0005  # fraction of the image; smaller objects are usually leaves or sensor noise
MIN_SIDE: Final = 4  # in pixels of the downscaled image

NAME: Final = "moving"
MAX_CONFIDENCE: Final = 0.5  # motion alone cannot distinguish an object from a shadow, foliage or a shaking camera

# Each part of the confidence reaches its maximum at one of these values: the contrast to the background (of 255), the
# filled fraction of the box, and the area as a multiple of the minimum area.
_CLEAR_CONTRAST: Final = 60.0
_CLEAR_FILL: Final = 0.6
_CLEAR_SIZE: Final = 8.0

_SPECKS: Final = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
# This shape is taller than wide: it connects a person's head, trunk and legs, but not two people side by side.
_GAPS: Final = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 7))
_FOREGROUND: Final = 255  # MOG2 marks shadows with 127


class MovingObjectDetector:
    """Detector of moving objects in one source, based on a learned background. Not thread-safe."""

    def __init__(self) -> None:
        self._restart((), 0.0)

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:
        """Return the moving objects (see `Detector`). The list is empty while the detector learns the background."""
        small, factor = downscale(pixels, MAX_SIDE)
        if small.shape != self._shape:
            self._restart(small.shape, at)
        mask = self._learn(small, at)
        if self._images <= WARM_UP_IMAGES:
            return []
        if np.count_nonzero(mask) > SCENE_CHANGE_SHARE * mask.size:
            self._restart(small.shape, at)
            self._learn(small, at)
            return []
        cleaned = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _SPECKS), cv2.MORPH_CLOSE, _GAPS)
        outlines, _ = cv2.findContours(cleaned, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if not outlines:
            return []
        difference = cv2.absdiff(small, self._background.getBackgroundImage()).max(axis=2)
        min_area = MIN_AREA_SHARE * mask.size
        detections = []
        for outline in outlines:
            x, y, w, h = cv2.boundingRect(outline)
            if min(w, h) < MIN_SIDE or cv2.contourArea(outline) < min_area:
                continue
            inside = slice(y, y + h), slice(x, x + w)
            confidence = _confidence(mask[inside], difference[inside], min_area)
            if confidence >= threshold:
                edges = (x * factor, y * factor, (x + w) * factor, (y + h) * factor)
                detections.append(detection_at(edges, pixels, NAME, confidence))
        return by_confidence(detections)

    def _restart(self, shape: tuple[int, ...], at: float) -> None:
        self._shape = shape
        self._images = 0
        self._first_at = self._last_at = at
        self._background = cv2.createBackgroundSubtractorMOG2(varThreshold=SENSITIVITY, detectShadows=True)
        self._background.setBackgroundRatio(BACKGROUND_SHARE)
        self._background.setNMixtures(MIXTURES)

    def _learn(self, small: Pixels, at: float) -> Mask:
        """Update the background with an image, and return the image's foreground mask (0 or 255).

        The learning rate depends on the elapsed time, so backgrounds forget equally fast at any frame rate. The first
        images have equal weights, so the detector learns quickly. A young background forgets sooner, because it may
        contain objects that have only paused.
        """
        forget_s = min(max(at - self._first_at, YOUNG_FORGET_S), FORGET_S)
        rate = 1 - math.exp(-(at - self._last_at) / forget_s)
        if self._images < EQUAL_WEIGHT_IMAGES:
            rate = max(rate, 1 / (self._images + 1))
        self._images += 1
        self._last_at = at
        labels = self._background.apply(small, learningRate=rate)
        return np.where(labels == _FOREGROUND, np.uint8(_FOREGROUND), np.uint8(0))


def _confidence(mask: Mask, difference: Mask, min_area: float) -> float:
    """Return the confidence (0..0.5). Half of it depends on contrast, a quarter on fill, and a quarter on size."""
    area = int(np.count_nonzero(mask))
    if not area:
        return 0.0  # the outline contains no foreground, only a closed gap
    contrast = float(difference[mask > 0].mean()) / _CLEAR_CONTRAST
    fill = area / mask.size / _CLEAR_FILL
    size = area / min_area / _CLEAR_SIZE
    return round(MAX_CONFIDENCE * (0.5 * min(contrast, 1.0) + 0.25 * min(fill, 1.0) + 0.25 * min(size, 1.0)), 4)
