"""Face detectors: one with a YuNet model, and one that finds skin-colored ovals without a model.

The skin detector needs no download. It finds upright, evenly lit heads within its range of skin tones. It also reports
hands and oval areas of sand and wood. It misses dark faces and faces that are turned away. Use this detector to test
an installation, not to count people.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from nvision_hub.errors import UnavailableError
from workers.local_service.detection_types import Detection, by_confidence, detection_at
from workers.local_service.images import downscale

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from workers.local_service.images import Pixels

MAX_SIDE: Final = 800  # pixels; at this size, a face of 48 pixels in a 1080p frame has 20 pixels

# Range of skin in YCrCb (brightness, red difference, blue difference). Skin varies more in brightness than in color.
_SKIN_FROM: Final = np.array([50, 135, 80], np.uint8)
_SKIN_TO: Final = np.array([250, 178, 128], np.uint8)
_MIN_SIDE: Final = 8  # in pixels of the downscaled image
_MAX_ASPECT: Final = 1.9  # height over width of a head with the neck
_MIN_ASPECT: Final = 0.95
_MIN_OVALNESS: Final = 0.84  # intersection over union of outline and ellipse; a rectangle reaches 0.79

_OVERLAP: Final = 0.3
_TRIAL_SIDE: Final = 320  # pixels; a multiple of YuNet's largest stride
_MAX_FACES: Final = 200
_SPECKS: Final = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))


class SkinFaces:
    """Stateless detector of skin-colored upright ovals. Threads may share one instance."""

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - stateless
        small, factor = downscale(pixels, MAX_SIDE)
        smooth = cv2.cvtColor(cv2.GaussianBlur(small, (3, 3), 0), cv2.COLOR_BGR2YCrCb)
        skin = cv2.morphologyEx(cv2.inRange(smooth, _SKIN_FROM, _SKIN_TO), cv2.MORPH_OPEN, _SPECKS)
        outlines, _ = cv2.findContours(skin, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        faces: list[Detection | None] = []
        for outline in outlines:
            x, y, w, h = cv2.boundingRect(outline)
            if min(w, h) < _MIN_SIDE or not _MIN_ASPECT * w <= h <= _MAX_ASPECT * w:
                continue
            oval = _ovalness(np.asarray(outline, np.int32), w, h)
            # The oval of a face contains mostly skin: only eyes, brows and mouth have other colors.
            filled = float(np.count_nonzero(skin[y : y + h, x : x + w])) / (math.pi / 4 * w * h)
            confidence = round(oval * min(filled, 1.0) * 0.95, 4)
            if oval >= _MIN_OVALNESS and confidence >= threshold:
                faces.append(_face((x, y, w, h), factor, pixels, confidence))
        return by_confidence(faces)


def _ovalness(outline: npt.NDArray[np.int32], width: int, height: int) -> float:
    """Return the intersection over union of an outline and the upright ellipse in its bounding box (0..1)."""
    x, y, _, _ = cv2.boundingRect(outline)
    actual = np.zeros((height, width), np.uint8)
    cv2.drawContours(actual, [outline], -1, 1, cv2.FILLED, offset=(-x, -y))
    ideal = np.zeros((height, width), np.uint8)
    cv2.ellipse(ideal, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, cv2.FILLED)
    return int(np.count_nonzero(actual & ideal)) / max(int(np.count_nonzero(actual | ideal)), 1)


class YunetFaces:
    """Thread-safe detector with a YuNet model. Raises `UnavailableError` if the file is missing or invalid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise UnavailableError(f"The face model {path} cannot be read: there is no such file; correct the path.")
        if not _has_yunet_outputs(path):
            raise self._unusable()
        self._detectors = threading.local()  # one per thread, because a detector stores image size and network state
        self.detect(np.zeros((_TRIAL_SIDE, _TRIAL_SIDE, 3), np.uint8), 0.0, 1.0)

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - stateless
        small, factor = downscale(pixels, MAX_SIDE)
        try:
            detector = getattr(self._detectors, "detector", None)
            if detector is None:
                detector = cv2.FaceDetectorYN.create(str(self._path), "", (320, 320), nms_threshold=_OVERLAP)
                self._detectors.detector = detector
            detector.setInputSize((small.shape[1], small.shape[0]))
            detector.setScoreThreshold(threshold)
            _, rows = detector.detect(small)
        except cv2.error as error:
            raise self._unusable() from error
        return by_confidence(
            _face(row[:4], factor, pixels, min(float(row[-1]), 1.0))
            for row in (() if rows is None else rows[:_MAX_FACES].tolist())
        )

    def _unusable(self) -> UnavailableError:
        return UnavailableError(
            f"OpenCV cannot run the face model {self._path}; use a YuNet ONNX file, such as "
            "face_detection_yunet from the OpenCV model zoo."
        )


def _has_yunet_outputs(path: Path) -> bool:
    """Return whether the model has YuNet's outputs. OpenCV reads them without a check of their sizes."""
    sizes = {
        f"{kind}_{stride}": values * (_TRIAL_SIDE // stride) ** 2
        for stride in (8, 16, 32)
        for kind, values in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
    }
    try:
        net = cv2.dnn.readNetFromONNX(str(path))
        net.setInput(cv2.dnn.blobFromImage(np.zeros((_TRIAL_SIDE, _TRIAL_SIDE, 3), np.uint8)))
        outputs = net.forward(list(sizes))
    except cv2.error:
        return False
    return [(output.dtype.name, output.size) for output in map(np.asarray, outputs)] == [
        ("float32", size) for size in sizes.values()
    ]


def _face(edges: Sequence[float], factor: float, pixels: Pixels, confidence: float) -> Detection | None:
    """Return the face in this box (x, y, width, height) of the downscaled image; None if outside the image."""
    x, y, width, height = (edge * factor for edge in edges)
    return detection_at((x, y, x + width, y + height), pixels, "face", confidence)
