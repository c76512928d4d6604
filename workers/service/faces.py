"""Faces in still pictures: by a YuNet model where there is one, else by skin colour and oval shape.

The second needs no download and finds upright, evenly lit heads of the skin tones it was given ranges for. Sand,
wood and hands of the right shape pass for faces, and a face turned away or in the dark does not: good enough to
try the chain out, not to count people by.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from nvision_hub.errors import UnavailableError
from workers.service.coco import parent_of
from workers.service.detections import Detection, box_within, surest_first
from workers.service.pictures import reduced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from workers.service.pictures import Pixels

LONGEST_SIDE: Final = 800  # a face of 20 pixels in it is one of 48 in a 1080p picture
NAME: Final = "face"

# Skin in YCrCb (brightness, red difference, blue difference): its colour hardly varies, its brightness does.
_SKIN_FROM: Final = np.array([50, 135, 80], np.uint8)
_SKIN_TO: Final = np.array([250, 178, 128], np.uint8)
_SMALLEST_SIDE: Final = 8  # pixels of the reduced picture
_TALLEST: Final = 1.9  # height over width of a head with its neck, at most
_FLATTEST: Final = 0.95
_LEAST_OVAL: Final = 0.84  # of what an outline and its ellipse cover, both cover this; a rectangle reaches 0.79

_OVERLAP: Final = 0.3
_MOST_FACES: Final = 200
_SPECKS: Final = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
_OUTLINE_POINTS: Final = 5  # an ellipse has five unknowns


class SkinFaces:
    """Skin-coloured upright ovals. Keeps nothing between pictures, so any number of threads may use one."""

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - has no past
        """The faces in one picture; see `Detector`."""
        small, factor = reduced(pixels, LONGEST_SIDE)
        smooth = cv2.cvtColor(cv2.GaussianBlur(small, (3, 3), 0), cv2.COLOR_BGR2YCrCb)
        skin = cv2.morphologyEx(cv2.inRange(smooth, _SKIN_FROM, _SKIN_TO), cv2.MORPH_OPEN, _SPECKS)
        outlines, _ = cv2.findContours(skin, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        found: list[Detection] = []
        for outline in outlines:
            x, y, w, h = cv2.boundingRect(outline)
            upright = _FLATTEST * w <= h <= _TALLEST * w
            if min(w, h) < _SMALLEST_SIDE or not upright or len(outline) < _OUTLINE_POINTS:
                continue
            oval = _ovalness(np.asarray(outline, np.int32), w, h)
            # Holes are eyes, brows and a mouth, which a face may have; more hole than skin it may not.
            filled = float(np.count_nonzero(skin[y : y + h, x : x + w])) / (math.pi / 4 * w * h)
            confidence = round(min(oval, 1.0) * min(filled, 1.0) * 0.95, 4)
            if oval < _LEAST_OVAL or confidence < threshold:
                continue
            found.extend(_face((x, y, w, h), factor, pixels, confidence))
        return surest_first(found)


def _ovalness(outline: npt.NDArray[np.int32], width: int, height: int) -> float:
    """How much of an outline and of the upright ellipse in its bounding box is common to both (0..1)."""
    x, y, _, _ = cv2.boundingRect(outline)
    mine = np.zeros((height, width), np.uint8)
    cv2.drawContours(mine, [outline], -1, 1, cv2.FILLED, offset=(-x, -y))
    ideal = np.zeros((height, width), np.uint8)
    cv2.ellipse(ideal, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, cv2.FILLED)
    return int(np.count_nonzero(mine & ideal)) / max(int(np.count_nonzero(mine | ideal)), 1)


class YunetFaces:
    """Faces by OpenCV's own detector with a YuNet model file, ready for several threads.

    Raises `UnavailableError` where the file is missing or is no such model.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise UnavailableError(f"The face model {path} cannot be read: there is no such file.")
        self._detectors = threading.local()  # a detector holds the picture's size and its network's state
        self.detect(np.zeros((320, 320, 3), np.uint8), 0.0, 1.0)

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - has no past
        """The faces in one picture; see `Detector`."""
        small, factor = reduced(pixels, LONGEST_SIDE)
        try:
            detector = getattr(self._detectors, "detector", None)
            if detector is None:
                detector = cv2.FaceDetectorYN.create(str(self._path), "", (320, 320), nms_threshold=_OVERLAP)
                self._detectors.detector = detector
            detector.setInputSize((small.shape[1], small.shape[0]))
            detector.setScoreThreshold(threshold)
            _, rows = detector.detect(small)
        except cv2.error as error:
            raise UnavailableError(
                f"OpenCV cannot run the face model {self._path}; a YuNet ONNX file is needed, such as "
                "face_detection_yunet of the OpenCV model zoo."
            ) from error
        found: list[Detection] = []
        for row in () if rows is None else rows[:_MOST_FACES]:
            x, y, w, h, confidence = (float(row[column]) for column in (0, 1, 2, 3, -1))
            found.extend(_face((x, y, w, h), factor, pixels, min(confidence, 1.0)))
        return surest_first(found)


def _face(
    edges: tuple[float, float, float, float], factor: float, pixels: Pixels, confidence: float
) -> Iterator[Detection]:
    """The face with those edges (x, y, width, height) in the reduced picture; none where it is all outside."""
    x, y, width, height = (edge * factor for edge in edges)
    box = box_within(x, y, x + width, y + height, width=pixels.shape[1], height=pixels.shape[0])
    if box is not None:
        yield Detection(name=NAME, parent=parent_of(NAME), confidence=confidence, box=box)
