"""Small ONNX models with the outputs of YOLO and YuNet. The color of each cell in the image determines its score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

Layout = Literal["v8", "v8 turned", "v5", "v5 turned", "end to end"]
LAYOUTS: Final[tuple[Layout, ...]] = ("v8", "v8 turned", "v5", "v5 turned", "end to end")

CELL: Final = 8
WIDTH: Final = 96
HEIGHT: Final = 64
NAMES: Final = "{0: 'person', 1: 'car', 2: 'dog'}"  # red, green, blue
OBJECTNESS: Final = 0.9


def color_model(path: Path, layout: Layout, *, names: str | None = NAMES, classes: int = 3, box: int = CELL) -> None:
    """Write a model with one candidate per cell: a box around the cell's center, with the cell's mean colors as scores.

    The colors are red, green and blue. With fewer than three classes, the model ignores the last colors. Additional
    classes have a score of 0. If `box` is larger than a cell, neighboring boxes overlap.
    """
    rows, columns = HEIGHT // CELL, WIDTH // CELL
    cells = rows * columns
    middles = np.stack(
        [
            np.tile((np.arange(columns) + 0.5) * CELL, rows),
            np.repeat((np.arange(rows) + 0.5) * CELL, columns),
            np.full(cells, box),
            np.full(cells, box),
        ]
    )[None].astype(np.float32)
    constants: dict[str, npt.NDArray[Any]] = {
        "shape": np.array([1, 3, cells], np.int64),
        "rest": np.zeros((1, max(classes - 3, 0), cells), np.float32),
        "first": np.array([0], np.int64),
        "last": np.array([min(classes, 3)], np.int64),
        "channels": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("AveragePool", ["images"], ["means"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Reshape", ["means", "shape"], ["all colors"]),
        helper.make_node("Slice", ["all colors", "first", "last", "channels"], ["colors"]),
    ]
    scores = ["colors", "rest"] if classes > 3 else ["colors"]
    if layout == "end to end":
        constants["corners"] = np.concatenate([middles[:, :2] - box / 2, middles[:, :2] + box / 2], 1)
        # The last class, but at most 1 (car).
        constants["number"] = np.full((1, 1, cells), min(classes - 1, 1), np.float32)
        nodes.append(helper.make_node("ReduceMax", ["colors"], ["best"], axes=[1], keepdims=1))
        parts = ["corners", "best", "number"]
    elif layout.startswith("v5"):
        constants |= {"boxes": middles, "sure": np.full((1, 1, cells), OBJECTNESS, np.float32)}
        parts = ["boxes", "sure", *scores]
    else:
        constants["boxes"] = middles
        parts = ["boxes", *scores]
    in_rows = layout in {"v8 turned", "v5", "end to end"}
    nodes.append(helper.make_node("Concat", parts, ["table" if in_rows else "output0"], axis=1))
    if in_rows:
        nodes.append(helper.make_node("Transpose", ["table"], ["output0"], perm=[0, 2, 1]))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, None, None])],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    if names is not None:
        helper.set_model_props(model, {"names": names, "imgsz": f"[{HEIGHT}, {WIDTH}]"})
    onnx.save(model, path)


def red_faces(path: Path) -> None:
    """Write a model with YuNet's twelve outputs. Each red cell of 8 pixels yields a face of 32 pixels around it.

    OpenCV's FaceDetectorYN defines the output names and their meaning. The outputs for each stride are a class score,
    an objectness score, a box and five points. A box consists of its center's offset and the logarithm of its size, in
    cells.
    """
    nodes, outputs = [], []
    constants: dict[str, npt.NDArray[Any]] = {
        # weights for blue, green and red; each input value is 0 to 255
        "only red": np.array([0, 0, 1 / 255], np.float32).reshape(1, 3, 1, 1),
        "channels": np.array([1], np.int64),
        "flat": np.array([1, -1, 1], np.int64),
        "nothing": np.float32(0).reshape(1, 1, 1),
        "size": np.array([0.5, 0.5, np.log(4), np.log(4)], np.float32).reshape(1, 1, 4),
        "points": np.zeros((1, 1, 10), np.float32),
    }
    for stride in (8, 16, 32):
        answers = stride == CELL
        nodes += [
            helper.make_node(
                "AveragePool", ["input"], [f"mean{stride}"], kernel_shape=[stride, stride], strides=[stride, stride]
            ),
            helper.make_node("Mul", [f"mean{stride}", "only red"], [f"red{stride}"]),
            helper.make_node("ReduceSum", [f"red{stride}", "channels"], [f"sum{stride}"], keepdims=1),
            helper.make_node("Reshape", [f"sum{stride}", "flat"], [f"score{stride}"]),
            helper.make_node("Mul", [f"score{stride}", "nothing"], [f"zero{stride}"]),
            helper.make_node("Identity", [f"score{stride}" if answers else f"zero{stride}"], [f"cls_{stride}"]),
            helper.make_node("Identity", [f"score{stride}" if answers else f"zero{stride}"], [f"obj_{stride}"]),
            helper.make_node("Add", [f"zero{stride}", "size"], [f"bbox_{stride}"]),
            helper.make_node("Add", [f"zero{stride}", "points"], [f"kps_{stride}"]),
        ]
        outputs += [
            helper.make_tensor_value_info(f"{kind}_{stride}", TensorProto.FLOAT, [1, None, size])
            for kind, size in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        ]
    graph = helper.make_graph(
        nodes,
        "faces",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
