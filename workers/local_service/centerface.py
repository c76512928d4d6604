"""Face detection with the packaged CenterFace model.

For each cell of 4 x 4 pixels of its input, the model predicts a score, a size and a center. It accepts any input size
whose sides are multiples of 32 pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from workers.local_service.detection_types import Detection, by_confidence, detection_at
from workers.local_service.inference import PerThread, opencv_reason, suppress_overlaps, unusable

if TYPE_CHECKING:
    from workers.local_service.images import Pixels
    from workers.local_service.packaged_models import PackagedModel

MAX_SIDE: Final = 800  # pixels; at this size, a face of 48 pixels in a 1080p frame has 20 pixels
MAX_OVERLAP: Final = 0.3  # intersection over union
MAX_FACES: Final = 200
# `CONFIDENCES[i]` is the fraction of boxes with a score near `SCORES[i]` that are faces. It was measured on photos of
# groups of people, scaled to 15 to 200 pixels per face and placed on other photos (docs/detection.md).
SCORES: Final = (0.1, 0.175, 0.225, 0.3, 0.375, 0.425, 0.475, 0.55, 0.7, 1.0)
CONFIDENCES: Final = (0.02, 0.08, 0.15, 0.3, 0.55, 0.65, 0.9, 0.97, 0.99, 1.0)

_CELL: Final = 4  # pixels
_MULTIPLE: Final = 32  # pixels
# Model outputs: scores; logarithms of height and width in cells; centers (y, x) within the cell; landmarks, which
# OpenCV always returns.
_OUTPUTS: Final = ("537", "538", "539", "540")


class CenterFace:
    """Thread-safe detector with the packaged model. Raises `UnavailableError` if the model cannot be used."""

    def __init__(self, model: PackagedModel) -> None:
        self._nets = PerThread(lambda: _load(model))
        self._nets.prepare()

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - the interface
        height, width = pixels.shape[:2]
        factor = min(MAX_SIDE / max(width, height), 1.0)
        size = tuple(max(-int(-side * factor // _MULTIPLE), 1) * _MULTIPLE for side in (width, height))
        net = self._nets.get()
        net.setInput(cv2.dnn.blobFromImage(pixels, 1.0, size, swapRB=True))
        scores, sizes, centers, _ = (np.asarray(output, np.float32)[0] for output in net.forward(_OUTPUTS))
        rows, columns = np.nonzero(scores[0] >= max(SCORES[0], float(np.interp(threshold, CONFIDENCES, SCORES))))
        cells = rows, columns
        confidences = np.interp(scores[0][cells], SCORES, CONFIDENCES)
        middles = np.stack([columns + centers[1][cells], rows + centers[0][cells]], axis=1) + 0.5
        halves = np.exp(np.stack([sizes[1][cells], sizes[0][cells]], axis=1).clip(max=10)) / 2
        scale = np.array([width / size[0], height / size[1]] * 2) * _CELL
        boxes = np.concatenate([middles - halves, middles + halves], axis=1) * scale
        return by_confidence(
            _face(boxes[index].tolist(), pixels, round(float(confidences[index]), 4))
            for index in suppress_overlaps(
                boxes, confidences, np.zeros(len(boxes), np.int32), max_overlap=MAX_OVERLAP, max_objects=MAX_FACES
            )
        )


def _load(model: PackagedModel) -> Any:
    """Load the model and run it once. Raises `UnavailableError`."""
    model.verify()
    try:
        # After a change of the input size, the classic engine would return wrong results.
        net: Any = cv2.dnn.readNetFromONNX(str(model.path), cv2.dnn.ENGINE_NEW)
        net.setInput(np.zeros((1, 3, _MULTIPLE, _MULTIPLE), np.float32))
        shapes = [output.shape for output in net.forward(_OUTPUTS)]
    except cv2.error as error:
        raise unusable(model, opencv_reason(error)) from error
    side = _MULTIPLE // _CELL
    if shapes[:-1] != [(1, channels, side, side) for channels in (1, 2, 2)]:
        raise unusable(model, f"its outputs have the shapes {shapes}")
    return net


def _face(edges: list[float], pixels: Pixels, confidence: float) -> Detection | None:
    left, top, right, bottom = edges
    return detection_at((left, top, right, bottom), pixels, "face", confidence)
