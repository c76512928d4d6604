"""Object detection with the packaged SSD MobileNet V2, trained on Open Images V4.

The input is 300 x 300 pixels in RGB with values from -1 to 1. For each of 1,917 anchors, the model predicts an offset
and 24 logits (background and 23 classes). The anchors are those of TensorFlow's object detection API with six feature
maps.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from workers.local_service.detection_types import Detection, by_confidence, detection_at
from workers.local_service.inference import PerThread, opencv_reason, suppress_overlaps, unusable

if TYPE_CHECKING:
    import numpy.typing as npt

    from workers.local_service.images import Pixels
    from workers.local_service.packaged_models import PackagedModel

    Floats = npt.NDArray[np.float32]

NAMES: Final = (
    "bicycle", "boot", "laptop", "person", "chair", "cattle", "desk", "cat", "computer mouse", "computer monitor",
    "box", "mug", "coffee cup", "stationary bicycle", "table", "bottle", "high heels", "vehicle", "footwear", "dog",
    "book", "camera", "car",
)  # fmt: skip
# Some Open Images classes include other classes. Overlapping boxes of one group count as one object.
_GROUPS: Final = (
    {"bicycle", "stationary bicycle"}, {"car", "vehicle"}, {"desk", "table"}, {"mug", "coffee cup"},
    {"footwear", "boot", "high heels"},
)  # fmt: skip
# Clothing would double the number of detections, so a request must ask for these classes.
_PARTS: Final = frozenset({"footwear", "boot", "high heels"})

INPUT_SIDE: Final = 300  # pixels
MAX_OVERLAP: Final = 0.35  # intersection over union; a higher limit would leave two boxes on many pedestrians
MAX_OBJECTS: Final = 300
# `CONFIDENCES[i]` is the fraction of person boxes with a score near `SCORES[i]` that are correct. It was measured on
# the first half of vtest.avi (opencv-doc). A box is correct if it matches a detection of a Faster R-CNN (confidence
# above 0.7, IoU 0.4). docs/detection.md contains the results for the second half.
SCORES: Final = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.65, 1.0)
CONFIDENCES: Final = (0.001, 0.002, 0.03, 0.095, 0.24, 0.765, 0.94, 0.971, 0.995, 1.0)

_MAX_ASPECT: Final = 4 / 3
_GRAY: Final = 127.5  # the value that the model reads as 0
_MAPS: Final = (19, 10, 5, 3, 2, 1)  # cells per side of each feature map
_SCALES: Final = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)  # scales of the anchors of each map, and of one additional map
_ASPECTS: Final = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)  # width divided by height
_LOWEST_MAP: Final = ((0.1, 1.0), (0.2, 2.0), (0.2, 1 / 2))  # scale and aspect ratio
_CENTER_SCALE: Final = 10.0
_SIZE_SCALE: Final = 5.0
_OFFSET_LAYERS: Final = tuple(f"BoxPredictor_{number}/BoxEncodingPredictor/" for number in range(len(_MAPS)))
_CLASSES_OUTPUT: Final = "raw_outputs/class_predictions"


class SsdMobilenet:
    """Thread-safe detector with the packaged model. Raises `UnavailableError` if the model cannot be used."""

    def __init__(self, model: PackagedModel) -> None:
        self._nets = PerThread(lambda: _Network(model))
        self._nets.prepare()

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - the interface
        blob, size = _prepare(pixels)
        offsets, logits = self._nets.get().run(blob)
        scores = 1 / (1 + np.exp(-logits[:, 1:]))  # excludes the background
        anchors, classes = np.nonzero(scores >= max(SCORES[0], float(np.interp(threshold, CONFIDENCES, SCORES))))
        boxes = _decode(offsets[anchors], _ANCHORS[anchors])
        found = np.interp(scores[anchors, classes], SCORES, CONFIDENCES)
        return by_confidence(
            _detection(boxes[index] * (*size, *size), pixels, classes[index], found[index])
            for index in suppress_overlaps(
                boxes, found, _GROUP_NUMBERS[classes], max_overlap=MAX_OVERLAP, max_objects=MAX_OBJECTS
            )
        )


class _Network:
    """The network of one thread.

    OpenCV 5.0 returns the model's own offset output in the wrong order. This class therefore reads the convolutions
    before that output. Only the classic engine can return several outputs from one run.
    """

    def __init__(self, model: PackagedModel) -> None:
        """Load the model and run it once. Raises `UnavailableError`."""
        model.verify()
        try:
            self._net: Any = cv2.dnn.readNetFromTFLite(str(model.path), cv2.dnn.ENGINE_CLASSIC)
            layers = self._net.getLayerNames()
            offsets = [layer for start in _OFFSET_LAYERS for layer in layers if layer.startswith(start)]
            self._outputs = [*offsets, _CLASSES_OUTPUT]
            shapes = [table.shape for table in self.run(np.zeros((1, 3, INPUT_SIDE, INPUT_SIDE), np.float32))]
        except (cv2.error, ValueError) as error:
            raise unusable(model, opencv_reason(error) if isinstance(error, cv2.error) else str(error)) from error
        if shapes != [(len(_ANCHORS), 4), (len(_ANCHORS), len(NAMES) + 1)]:
            raise unusable(model, f"its outputs have the shapes {shapes}")

    def run(self, blob: Any) -> tuple[Floats, Floats]:
        """Return the offsets (1917 x 4) and the logits (1917 x 24) of all anchors."""
        self._net.setInput(blob)
        *maps, logits = (np.asarray(output, np.float32)[0] for output in self._net.forward(self._outputs))
        return np.concatenate([cells.transpose(1, 2, 0).reshape(-1, 4) for cells in maps]), logits


def _prepare(pixels: Pixels) -> tuple[Any, tuple[float, float]]:
    """Return the model's input, and the width and height of the input in pixels of the image.

    The model was trained on photos that were squeezed into a square, most of them 4:3. The function pads a wider image
    to 4:3 and a taller image to 3:4, because the model misses objects that are squeezed more.
    """
    height, width = pixels.shape[:2]
    full = max(width, height / _MAX_ASPECT), max(height, width / _MAX_ASPECT)
    inner = max(round(INPUT_SIDE * width / full[0]), 1), max(round(INPUT_SIDE * height / full[1]), 1)
    smoothing = cv2.INTER_AREA if max(width, height) > INPUT_SIDE else cv2.INTER_LINEAR
    canvas = np.full((INPUT_SIDE, INPUT_SIDE, 3), _GRAY, np.uint8)
    canvas[: inner[1], : inner[0]] = cv2.resize(pixels, inner, interpolation=smoothing)
    return cv2.dnn.blobFromImage(canvas, 1 / _GRAY, mean=(_GRAY,) * 3, swapRB=True), full


def _detection(edges: Floats, pixels: Pixels, number: int, confidence: float) -> Detection | None:
    name = NAMES[number]
    left, top, right, bottom = edges.tolist()
    return detection_at((left, top, right, bottom), pixels, name, round(float(confidence), 4), part=name in _PARTS)


def _anchors() -> Floats:
    """Return the anchors as center x, center y, width and height, in fractions of the image."""
    rows = []
    for number, (cells, (scale, following)) in enumerate(zip(_MAPS, pairwise(_SCALES), strict=True)):
        between = ((scale * following) ** 0.5, 1.0)
        shapes = [*((scale, aspect) for aspect in _ASPECTS), between] if number else _LOWEST_MAP
        rows += [
            ((column + 0.5) / cells, (row + 0.5) / cells, size * aspect**0.5, size / aspect**0.5)
            for row in range(cells)
            for column in range(cells)
            for size, aspect in shapes
        ]
    return np.array(rows, np.float32)


def _decode(offsets: Floats, anchors: Floats) -> Floats:
    """Return left, top, right and bottom in fractions of the image.

    In an offset, y precedes x and height precedes width.
    """
    centers = offsets[:, 1::-1] / _CENTER_SCALE * anchors[:, 2:] + anchors[:, :2]
    halves = np.exp(offsets[:, :1:-1] / _SIZE_SCALE) * anchors[:, 2:] / 2
    return np.concatenate([centers - halves, centers + halves], axis=1)


def _group_number(name: str) -> int:
    return min(NAMES.index(other) for other in next((group for group in _GROUPS if name in group), {name}))


_ANCHORS: Final = _anchors()
_GROUP_NUMBERS: Final = np.array([_group_number(name) for name in NAMES], np.int32)
