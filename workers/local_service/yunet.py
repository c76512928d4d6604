"""Face detection with a YuNet model from the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from nvision_hub.errors import UnavailableError
from workers.local_service.detection_types import Detection, by_confidence, detection_at
from workers.local_service.images import downscale
from workers.local_service.inference import PerThread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workers.local_service.images import Pixels

MAX_SIDE: Final = 800  # pixels; at this size, a face of 48 pixels in a 1080p frame has 20 pixels

_OVERLAP: Final = 0.3
_TRIAL_SIDE: Final = 320  # pixels; a multiple of YuNet's largest stride
_MAX_FACES: Final = 200


class YunetFaces:
    """Thread-safe detector with a YuNet model. Raises `UnavailableError` if the file is missing or invalid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise UnavailableError(f"The face model {path} cannot be read: there is no such file; correct the path.")
        if not _has_yunet_outputs(path):
            raise self._unusable()
        self._detectors: PerThread[Any] = PerThread(
            lambda: cv2.FaceDetectorYN.create(str(path), "", (320, 320), nms_threshold=_OVERLAP)
        )
        self.detect(np.zeros((_TRIAL_SIDE, _TRIAL_SIDE, 3), np.uint8), 0.0, 1.0)

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - the interface
        small, factor = downscale(pixels, MAX_SIDE)
        try:
            detector = self._detectors.get()
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
    """Return whether the model has YuNet's outputs. OpenCV reads the outputs without checking their sizes."""
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
    """Return the face in this box (x, y, width, height) of the downscaled image; None for a box outside the image."""
    x, y, width, height = (edge * factor for edge in edges)
    return detection_at((x, y, x + width, y + height), pixels, "face", confidence)
