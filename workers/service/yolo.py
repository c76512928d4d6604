"""Objects by any YOLO-family ONNX model: letterbox in, boxes out, whichever way round the model writes them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from nvision_hub.errors import UnavailableError
from workers.service.coco import COCO_NAMES, parent_of
from workers.service.detections import Detection, box_within, surest_first
from workers.service.onnx_header import HeaderError, read_header

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from workers.service.pictures import Pixels

    Floats = npt.NDArray[np.float32]

DEFAULT_INPUT: Final = (640, 640)
PADDING_GREY: Final = 114  # what YOLO models saw around their pictures in training
OVERLAP: Final = 0.45  # boxes of one class that share more of their union than this are one object
MOST_CANDIDATES: Final = 3_000
MOST_OBJECTS: Final = 300
_BOX: Final = 4  # numbers of a box: middle x, middle y, width, height
_END_TO_END: Final = 6  # left, top, right, bottom, confidence, class: models that thin out by themselves


class YoloModel:
    """One ONNX file, ready to look at pictures from several threads.

    Understands one output of the layouts [1, 4+C, N] (YOLOv8, v9, v11, v12), [1, N, 5+C] (YOLOv5, v7: an
    objectness before the classes), either one transposed, and [1, N, 6] (v10 and v26: already thinned out).
    Raises `UnavailableError` where the file is missing, no model, or has another output.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            header = read_header(path)
        except OSError as error:
            raise UnavailableError(f"The model {path} cannot be read: {error.strerror}.") from error
        except HeaderError as error:
            raise UnavailableError(f"The model {path} cannot be used: {error}.") from error
        self._names = header.names
        self._input = header.input_size or DEFAULT_INPUT
        self._nets = threading.local()  # a network holds its picture while it runs, so each thread has its own
        # A first grey picture: a model that cannot be used is refused at the start, not with the first customer.
        self.detect(np.full((self._input[1], self._input[0], 3), PADDING_GREY, np.uint8), 0.0, 1.0)

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - has no past
        """The objects in one picture; see `Detector`."""
        blob, scale, pad_x, pad_y = self._letterbox(pixels)
        boxes, scores, classes = read_output(
            self._run(blob), classes=None if self._names is None else len(self._names), threshold=threshold
        )
        kept = _thinned(boxes, scores, classes, threshold)
        height, width = pixels.shape[:2]
        found = []
        for index in kept:
            left, top, right, bottom = (float(edge) for edge in boxes[index])
            box = box_within(
                (left - pad_x) / scale,
                (top - pad_y) / scale,
                (right - pad_x) / scale,
                (bottom - pad_y) / scale,
                width=width,
                height=height,
            )
            if box is not None:
                name = self._name(int(classes[index]))
                confidence = min(float(scores[index]), 1.0)
                found.append(Detection(name=name, parent=parent_of(name), confidence=confidence, box=box))
        return surest_first(found)

    def _letterbox(self, pixels: Pixels) -> tuple[Any, float, int, int]:
        """The picture scaled into the middle of the model's input, its shape kept; the scale and the margins."""
        width, height = self._input
        scale = min(width / pixels.shape[1], height / pixels.shape[0])
        inner = (
            min(max(round(pixels.shape[1] * scale), 1), width),
            min(max(round(pixels.shape[0] * scale), 1), height),
        )
        pad_x, pad_y = (width - inner[0]) // 2, (height - inner[1]) // 2
        canvas = np.full((height, width, 3), PADDING_GREY, np.uint8)
        smoothing = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas[pad_y : pad_y + inner[1], pad_x : pad_x + inner[0]] = cv2.resize(pixels, inner, interpolation=smoothing)
        return cv2.dnn.blobFromImage(canvas, 1 / 255, swapRB=True), scale, pad_x, pad_y

    def _run(self, blob: Any) -> Floats:
        try:
            net = getattr(self._nets, "net", None)
            if net is None:
                net = self._nets.net = cv2.dnn.readNetFromONNX(str(self._path))
            net.setInput(blob)
            outputs = net.forward(net.getUnconnectedOutLayersNames())
        except cv2.error as error:
            reason = " ".join(str(error.err or error).split())
            raise UnavailableError(
                f"OpenCV cannot run the model {self._path} ({reason}); "
                "export it again with opset 12 to 17 and a fixed input size."
            ) from error
        if len(outputs) != 1 or np.squeeze(outputs[0], axis=0).ndim != 2:  # noqa: PLR2004 - a table
            shapes = ", ".join(str(tuple(output.shape)) for output in outputs)
            raise UnavailableError(
                f"The model {self._path} has outputs {shapes}; one of [1, 4+classes, N], [1, N, 5+classes] or "
                "[1, N, 6] is understood, as YOLOv5 to YOLO26 write it."
            )
        # Half-precision exports overflow where they are not sure; such a candidate is none.
        return np.nan_to_num(np.asarray(outputs[0][0], np.float32), posinf=0.0, neginf=0.0)

    def _name(self, number: int) -> str:
        if self._names is not None:
            return self._names.get(number, f"class {number}")
        return COCO_NAMES[number] if number < len(COCO_NAMES) else f"class {number}"


def read_output(
    table: Floats, *, classes: int | None, threshold: float
) -> tuple[Floats, Floats, npt.NDArray[np.int32]]:
    """Boxes (left, top, right, bottom in pixels of the model's input), scores and class numbers in one output.

    `classes` is how many the model knows, None where its file does not say: then 84 and 85 columns are COCO's, and
    otherwise rows of candidates carry an objectness and columns do not, as those generations of models do.
    """
    rows, has_objectness = _candidates_in_rows(table, classes)
    if has_objectness is None:
        sure = rows[:, 4] >= threshold
        rows = rows[sure][:MOST_CANDIDATES]
        return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32)
    per_class = rows[:, 5:] * rows[:, 4:5] if has_objectness else rows[:, 4:]
    numbers = per_class.argmax(axis=1)
    scores = np.take_along_axis(per_class, numbers[:, None], axis=1)[:, 0]
    best = np.flatnonzero(scores >= threshold)
    if len(best) > MOST_CANDIDATES:
        best = best[np.argpartition(-scores[best], MOST_CANDIDATES)[:MOST_CANDIDATES]]
    middle, half = rows[best, :2], rows[best, 2:4] / 2
    boxes = np.concatenate([middle - half, middle + half], axis=1)
    return boxes, scores[best], numbers[best].astype(np.int32)


def _candidates_in_rows(table: Floats, classes: int | None) -> tuple[Floats, bool | None]:
    """The table with one candidate a row, and whether it has an objectness; None for an end-to-end model's."""
    height, width = table.shape
    for known in (len(COCO_NAMES),) if classes is None else (classes,):
        for columns, has_objectness in ((_BOX + known, False), (_BOX + 1 + known, True)):
            # A row per candidate is tried last where both sides fit: there are more candidates than columns.
            for turned in (height <= width, height > width):
                if (height if turned else width) == columns:
                    return (table.T if turned else table), has_objectness
    if width == _END_TO_END:
        return table, None
    if height < width:
        return table.T, False
    return table, True


def _thinned(boxes: Floats, scores: Floats, classes: npt.NDArray[np.int32], threshold: float) -> list[int]:
    """Indices of the boxes that remain once each object of a class has one."""
    if not len(boxes):
        return []
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        sizes.tolist(), scores.tolist(), classes.tolist(), threshold, OVERLAP, top_k=MOST_OBJECTS
    )
    return [int(index) for index in np.asarray(kept).flatten()]
