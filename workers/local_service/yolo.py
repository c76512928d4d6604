"""Object detection with ONNX models of the YOLO family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from nvision_hub.errors import UnavailableError
from workers.local_service.detection_types import COCO_NAMES, Detection, by_confidence, detection_at
from workers.local_service.inference import PerThread, opencv_reason, suppress_overlaps
from workers.local_service.labels import read_labels
from workers.local_service.onnx_header import HeaderError, read_header

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from workers.local_service.images import Pixels

    Floats = npt.NDArray[np.float32]

DEFAULT_INPUT: Final = (640, 640)
PADDING_GRAY: Final = 114  # gray level around letterboxed images, as in training
MAX_OVERLAP: Final = 0.45  # intersection over union; boxes of one class that overlap more count as one object
MAX_CANDIDATES: Final = 3_000
MAX_OBJECTS: Final = 300
_BOX: Final = 4  # values of a box: center x, center y, width, height
_MAX_VALUE: Final = 1e6  # sums and differences of larger values could overflow
_END_TO_END: Final = 6  # values of a candidate if NMS is built in: left, top, right, bottom, confidence, class


class YoloModel:
    """Thread-safe detector with an ONNX model that has one output for N candidates of C classes.

    Supported outputs are [1, 4+C, N] (YOLOv8, v9, v11, v12), [1, N, 5+C] (YOLOv5, v7: an objectness score before the
    classes), both of these transposed, and [1, N, 6] (v10 and v26: NMS is built in).
    The class names come from the file `labels`, else from the metadata of the model, else from COCO. Raises
    `UnavailableError` if a file is missing, is not a model or a list of names, or does not fit the other.
    """

    def __init__(self, path: Path, labels: Path | None = None) -> None:
        self._path = path
        try:
            header = read_header(path)
        except OSError as error:
            raise UnavailableError(f"The model {path} cannot be read: {error.strerror}.") from error
        except HeaderError as error:
            raise UnavailableError(f"The model {path} cannot be used: {error}.") from error
        self._names = read_labels(labels) if labels is not None else header.names or dict(enumerate(COCO_NAMES))
        self._input = header.input_size or DEFAULT_INPUT
        self._nets = PerThread(lambda: cv2.dnn.readNetFromONNX(str(path)))
        # Test the model with a gray image, so that the service does not start with an unusable model.
        blank = np.full((self._input[1], self._input[0], 3), PADDING_GRAY, np.uint8)
        self.detect(blank, 0.0, 1.0)
        if labels is not None:
            table = self._run(self._letterbox(blank)[0])
            wanted = {len(header.names)} if header.names else possible_classes(table.shape)
            if wanted and len(self._names) not in wanted:
                raise UnavailableError(
                    f"The labels file {labels} has {len(self._names)} names, but the model {path} has "
                    f"{' or '.join(map(str, sorted(wanted)))} classes; write one name per class."
                )

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - stateless
        blob, scale, margins = self._letterbox(pixels)
        boxes, scores, classes = read_output(self._run(blob), classes=len(self._names), threshold=threshold)
        detections = []
        for index in suppress_overlaps(boxes, scores, classes, max_overlap=MAX_OVERLAP, max_objects=MAX_OBJECTS):
            left, top, right, bottom = ((boxes[index] - margins) / scale).tolist()
            name = self._names.get(int(classes[index]), f"class {classes[index]}")
            confidence = min(float(scores[index]), 1.0)
            detections.append(detection_at((left, top, right, bottom), pixels, name, confidence))
        return by_confidence(detections)

    def _letterbox(self, pixels: Pixels) -> tuple[Any, float, tuple[int, int, int, int]]:
        """Center the image in the model's input. Return the input, the scale and the padding to subtract from boxes."""
        width, height = self._input
        scale = min(width / pixels.shape[1], height / pixels.shape[0])
        inner = (
            min(max(round(pixels.shape[1] * scale), 1), width),
            min(max(round(pixels.shape[0] * scale), 1), height),
        )
        pad_x, pad_y = (width - inner[0]) // 2, (height - inner[1]) // 2
        canvas = np.full((height, width, 3), PADDING_GRAY, np.uint8)
        smoothing = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas[pad_y : pad_y + inner[1], pad_x : pad_x + inner[0]] = cv2.resize(pixels, inner, interpolation=smoothing)
        return cv2.dnn.blobFromImage(canvas, 1 / 255, swapRB=True), scale, (pad_x, pad_y, pad_x, pad_y)

    def _run(self, blob: Any) -> Floats:
        try:
            net: Any = self._nets.get()
            net.setInput(blob)
            outputs = net.forward(net.getUnconnectedOutLayersNames())
        except cv2.error as error:
            raise UnavailableError(
                f"OpenCV cannot run the model {self._path} ({opencv_reason(error)}); "
                "export it again with opset 12 to 17 and a fixed input size."
            ) from error
        tables = [np.asarray(output, np.float32) for output in outputs if output is not None]
        if len(tables) != 1 or not _is_table(tables[0].shape):
            shapes = ", ".join(str(table.shape) for table in tables) or "without values"
            raise UnavailableError(
                f"The model {self._path} has outputs {shapes}; use a model with one output [1, 4+classes, N], "
                "[1, N, 5+classes] or [1, N, 6], such as YOLOv5 to YOLO26."
            )
        # Half-precision models overflow for uncertain candidates, so replace infinite and invalid values with 0.
        table: Floats = np.nan_to_num(tables[0][0], posinf=0.0, neginf=0.0)
        return table.clip(-_MAX_VALUE, _MAX_VALUE)


def _is_table(shape: tuple[int, ...]) -> bool:
    """Return whether the shape is that of one table with at least a box and a score per candidate."""
    return len(shape) == 3 and shape[0] == 1 and min(shape) > 0 and min(shape[1:]) > _BOX  # noqa: PLR2004


def read_output(table: Floats, *, classes: int, threshold: float) -> tuple[Floats, Floats, npt.NDArray[np.int32]]:
    """Return the boxes (left, top, right, bottom in pixels of the model's input), scores and class numbers in a table.

    `classes` is the model's number of classes. If the size of the table does not match this number, a table
    with one candidate per row is read with objectness scores (v5, v7), and any other table without them.
    """
    rows, has_objectness = _candidates_in_rows(table, classes)
    if has_objectness is None:
        sure = rows[:, 4] >= threshold
        rows = rows[sure][:MAX_CANDIDATES]
        return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32)
    per_class = rows[:, 5:] * rows[:, 4:5] if has_objectness else rows[:, 4:]
    numbers = per_class.argmax(axis=1)
    scores = np.take_along_axis(per_class, numbers[:, None], axis=1)[:, 0]
    best = np.flatnonzero(scores >= threshold)
    if len(best) > MAX_CANDIDATES:
        best = best[np.argpartition(-scores[best], MAX_CANDIDATES)[:MAX_CANDIDATES]]
    center, half = rows[best, :2], rows[best, 2:4] / 2
    boxes = np.concatenate([center - half, center + half], axis=1)
    return boxes, scores[best], numbers[best].astype(np.int32)


def possible_classes(shape: tuple[int, ...]) -> set[int]:
    """Return the numbers of classes that a table of this shape can have; empty if any number is possible."""
    height, width = shape
    if width == _END_TO_END:
        return set()
    values = min(height, width)
    return {values - _BOX, values - _BOX - 1} - {0}


def _candidates_in_rows(table: Floats, classes: int) -> tuple[Floats, bool | None]:
    """Return the table with one candidate per row, and whether it has objectness scores (None: NMS is built in)."""
    height, width = table.shape
    # If both orientations fit, choose the one with more candidates than values per candidate.
    likelier, other = (table.T, table) if height <= width else (table, table.T)
    for columns, has_objectness in ((_BOX + classes, False), (_BOX + 1 + classes, True)):
        for rows in (likelier, other):
            if rows.shape[1] == columns:
                return rows, has_objectness
    if width == _END_TO_END:
        return table, None
    return (table.T, False) if height < width else (table, width > _BOX + 1)
