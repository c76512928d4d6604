"""YOLO models in every layout, with images whose shape differs from the model's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from nvision_hub.errors import UnavailableError
from nvision_hub.media import cv2_loader
from tests.support.onnx_models import LAYOUTS, OBJECTNESS, Layout, color_model
from workers.local_service.detection_types import COCO_NAMES, Box, Detection
from workers.local_service.onnx_header import read_header
from workers.local_service.yolo import YoloModel
from workers.local_service.yolo_output import Layout as OutputLayout
from workers.local_service.yolo_output import read_output

if TYPE_CHECKING:
    from pathlib import Path

    from workers.local_service.images import Pixels

cv2_loader.load()

RED, GREEN, BLUE = (0, 0, 255), (0, 255, 0), (255, 0, 0)


def image_with(width: int, height: int, *patches: tuple[tuple[int, int, int], Box]) -> Pixels:
    pixels = np.zeros((height, width, 3), np.uint8)
    for color, box in patches:
        pixels[box.top : box.bottom, box.left : box.right] = color
    return pixels


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_understood(tmp_path: Path, layout: Layout) -> None:
    color_model(tmp_path / "m.onnx", layout)
    where = Box(left=16, top=24, right=24, bottom=32)
    (found,) = YoloModel(tmp_path / "m.onnx").detect(image_with(96, 64, (GREEN, where)), 0.0, 0.5)
    assert (found.name, found.parent, found.box) == ("car", "vehicle", where)
    assert found.confidence == pytest.approx(OBJECTNESS if layout.startswith("v5") else 1.0, abs=0.01)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize(
    ("layout", "has_names"),
    [*((layout, True) for layout in LAYOUTS), ("v8", False), ("v5", False), ("end to end", False)],
)
def test_every_layout_is_understood_with_few_classes(
    tmp_path: Path, layout: Layout, classes: int, *, has_names: bool
) -> None:
    """A row of 6 values is a candidate with a class number, with 2 scores, or with objectness and 1 score."""
    names = dict(enumerate(["helmet", "vest"][:classes]))
    color_model(tmp_path / "m.onnx", layout, names=str(names) if has_names else None, classes=classes)
    labels = None
    if not has_names:
        labels = tmp_path / "names.txt"
        labels.write_text("\n".join(names.values()), encoding="utf-8")
    where = Box(left=16, top=24, right=24, bottom=32)
    color = (RED, GREEN)[classes - 1]
    image = image_with(96, 64, (color, where))
    (found,) = YoloModel(tmp_path / "m.onnx", labels).detect(image, 0.0, 0.02)
    assert (found.name, found.box) == (names[classes - 1], where)
    assert found.confidence == pytest.approx(OBJECTNESS if layout.startswith("v5") else 1.0, abs=0.01)


@pytest.mark.parametrize("layout", ["v8", "v5"])
def test_80_classes_without_names_are_cocos(tmp_path: Path, layout: Layout) -> None:
    color_model(tmp_path / "m.onnx", layout, names=None, classes=80)
    patches = [(RED, Box(left=0, top=0, right=8, bottom=8)), (BLUE, Box(left=40, top=40, right=48, bottom=48))]
    found = YoloModel(tmp_path / "m.onnx").detect(image_with(96, 64, *patches), 0.0, 0.5)
    assert {detection.name: detection.box for detection in found} == {"person": patches[0][1], "car": patches[1][1]}


@pytest.mark.parametrize(
    ("width", "height", "scale", "pad_x", "pad_y"),
    [(192, 128, 0.5, 0, 0), (96, 192, 1 / 3, 32, 0), (384, 64, 0.25, 0, 24), (48, 32, 2.0, 0, 0), (64, 64, 1.0, 16, 0)],
)
def test_boxes_are_in_pixels_of_the_sent_image(  # noqa: PLR0917 - one letterbox a case
    tmp_path: Path, width: int, height: int, scale: float, pad_x: int, pad_y: int
) -> None:
    color_model(tmp_path / "m.onnx", "v8")
    # `cell` is a cell of the model's input, and `where` is the same area in the image.
    cell = Box(left=pad_x + 8, top=pad_y, right=pad_x + 16, bottom=pad_y + 8)
    where = Box(
        left=round((cell.left - pad_x) / scale),
        top=round((cell.top - pad_y) / scale),
        right=round((cell.right - pad_x) / scale),
        bottom=round((cell.bottom - pad_y) / scale),
    )
    (found,) = YoloModel(tmp_path / "m.onnx").detect(image_with(width, height, (RED, where)), 0.0, 0.6)
    assert found.name == "person"
    assert all(abs(getattr(found.box, edge) - getattr(where, edge)) <= 1 for edge in ("left", "top", "right", "bottom"))


def test_overlapping_boxes_of_one_class_are_one_object_and_of_two_classes_two(tmp_path: Path) -> None:
    color_model(tmp_path / "m.onnx", "v8", box=40)
    model = YoloModel(tmp_path / "m.onnx")
    one, beside = Box(left=40, top=24, right=48, bottom=32), Box(left=48, top=24, right=56, bottom=32)
    assert [found.name for found in model.detect(image_with(96, 64, (RED, one), (RED, beside)), 0.0, 0.5)] == ["person"]
    both = model.detect(image_with(96, 64, (RED, one), (GREEN, beside)), 0.0, 0.5)
    assert sorted(found.name for found in both) == ["car", "person"]


def test_boxes_end_at_the_edge_of_the_image(tmp_path: Path) -> None:
    color_model(tmp_path / "m.onnx", "v8", box=40)
    corner = Box(left=0, top=0, right=8, bottom=8)
    (found,) = YoloModel(tmp_path / "m.onnx").detect(image_with(96, 64, (RED, corner)), 0.0, 0.5)
    assert found.box == Box(left=0, top=0, right=24, bottom=24)


def test_the_threshold_of_the_request_applies(tmp_path: Path) -> None:
    color_model(tmp_path / "m.onnx", "v8")
    model = YoloModel(tmp_path / "m.onnx")
    half = image_with(96, 64, ((0, 0, 128), Box(left=16, top=24, right=24, bottom=32)))
    assert len(model.detect(half, 0.0, 0.45)) == 1
    assert model.detect(half, 0.0, 0.55) == []


def test_overflowed_scores_are_no_objects() -> None:
    table = np.array([[8, 8, 4, 4, 0.9], [np.inf, 8, 4, 4, 0.1]], np.float32)
    boxes, scores, _ = read_output(table, OutputLayout(), threshold=0.5)
    assert (len(boxes), scores.tolist()) == (1, [pytest.approx(0.9)])


def test_the_header_contains_input_size_and_names(tmp_path: Path) -> None:
    color_model(tmp_path / "m.onnx", "v8")
    header = read_header(tmp_path / "m.onnx")
    assert header.input_size == (96, 64)
    assert header.names == {0: "person", 1: "car", 2: "dog"}
    color_model(tmp_path / "m.onnx", "v8", names=None)
    assert read_header(tmp_path / "m.onnx").names is None


def test_a_model_with_another_output_is_rejected_with_the_supported_ones(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["images"], ["output0"])],
        "picture",
        [onnx.helper.make_tensor_value_info("images", 1, [1, 3, 32, 32])],
        [onnx.helper.make_tensor_value_info("output0", 1, [1, 3, 32, 32])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(UnavailableError, match=r"outputs \(1, 3, 32, 32\)"):
        YoloModel(tmp_path / "m.onnx")


def test_cocos_classes_have_their_numbers_and_groups() -> None:
    assert len(COCO_NAMES) == 80
    assert (COCO_NAMES[0], COCO_NAMES[2], COCO_NAMES[16], COCO_NAMES[62], COCO_NAMES[79]) == (
        "person",
        "car",
        "dog",
        "tv",
        "toothbrush",
    )
    corner = Box(left=0, top=0, right=8, bottom=8)
    parents = {
        name: Detection(name=name, confidence=1.0, box=corner).parent
        for name in ("person", "tvmonitor", "handbag", "forklift")
    }
    assert parents == {"person": "human", "tvmonitor": "electronic", "handbag": "accessory", "forklift": "object"}
