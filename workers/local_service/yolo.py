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
from workers.local_service.yolo_output import BOX_VALUES, find_layout, possible_classes, read_output

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from workers.local_service.images import Pixels

    Floats = npt.NDArray[np.float32]

DEFAULT_INPUT: Final = (640, 640)
PADDING_GRAY: Final = 114  # gray level of the padding around letterboxed images, as in training
MAX_OVERLAP: Final = 0.45  # intersection over union; boxes of one class with more overlap count as one object
MAX_OBJECTS: Final = 300
_MAX_VALUE: Final = 1e6  # sums and differences of larger values could overflow


class YoloModel:
    """Thread-safe detector with an ONNX model whose single output describes N candidates of C classes.

    Supported outputs are [1, 4+C, N] (YOLOv8, v9, v11, v12), [1, N, 5+C] (YOLOv5, v7: an objectness score precedes the
    classes), and [1, N, 6] (v10 and v26: NMS is built in). The first two may be transposed if the model's metadata
    contains the class names. They may also be transposed if neither the metadata nor `labels` provides names and the
    model has the 80 classes of COCO. The class names come from the file `labels`, or else from the model's metadata, or
    else from COCO. Raises `UnavailableError` if a file is missing, is not a model or a list of names, or does not match
    the other file.
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
        # Test the model with a gray image. The service then does not start with an unusable model.
        blank = np.full((self._input[1], self._input[0], 3), PADDING_GRAY, np.uint8)
        table = self._run(self._letterbox(blank)[0])
        stated = len(header.names) if header.names else None
        # A labels file may contain the wrong number of names, so it must not determine the layout.
        self._layout = find_layout(table, stated, None if labels is not None else len(COCO_NAMES))
        if labels is not None:
            self._check_labels(labels, {stated} if stated else possible_classes(self._layout, table.shape))

    def _check_labels(self, labels: Path, wanted: set[int]) -> None:
        """Raise `UnavailableError` unless `wanted` contains the number of names. An empty set accepts any number."""
        if len(wanted) > 1:
            raise UnavailableError(
                f"The labels file {labels} has {len(self._names)} names, but the output of the model {self._path} does "
                f"not show whether it has {' or '.join(map(str, sorted(wanted)))} classes; export the model with its "
                "class names, or with a larger input."
            )
        if wanted and len(self._names) not in wanted:
            raise UnavailableError(
                f"The labels file {labels} has {len(self._names)} names, but the model {self._path} has "
                f"{wanted.pop()} classes; write one name per class."
            )

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - the interface
        blob, scale, margins = self._letterbox(pixels)
        boxes, scores, classes = read_output(self._run(blob), self._layout, threshold=threshold)
        detections = []
        for index in suppress_overlaps(boxes, scores, classes, max_overlap=MAX_OVERLAP, max_objects=MAX_OBJECTS):
            left, top, right, bottom = ((boxes[index] - margins) / scale).tolist()
            name = self._names.get(int(classes[index]), f"class {classes[index]}")
            confidence = min(float(scores[index]), 1.0)
            detections.append(detection_at((left, top, right, bottom), pixels, name, confidence))
        return by_confidence(detections)

    def _letterbox(self, pixels: Pixels) -> tuple[Any, float, tuple[int, int, int, int]]:
        """Center the image in the model's input.

        Return the input, the scale, and the padding to subtract from boxes.
        """
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
        # Half-precision models overflow for uncertain candidates. Replace infinite and invalid values with 0.
        table: Floats = np.nan_to_num(tables[0][0], posinf=0.0, neginf=0.0)
        return table.clip(-_MAX_VALUE, _MAX_VALUE)


def _is_table(shape: tuple[int, ...]) -> bool:
    """Return whether the shape is that of a table with at least a box and a score per candidate."""
    return len(shape) == 3 and shape[0] == 1 and min(shape) > 0 and min(shape[1:]) > BOX_VALUES  # noqa: PLR2004
