"""Class names from a labels file, and files that are no such list or do not fit the model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest

from nvision_hub.errors import ConfigError, UnavailableError
from nvision_hub.media import cv2_loader
from tests.support.onnx_models import NAMES, Layout, color_model
from workers.local_service.labels import read_labels
from workers.local_service.settings import LocalServiceSettings, check
from workers.local_service.yolo import YoloModel

if TYPE_CHECKING:
    from pathlib import Path

    from workers.local_service.images import Pixels

cv2_loader.load()


def green() -> Pixels:
    """Return an image in which the second class fills one cell of the test model."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[24:32, 16:24] = (0, 255, 0)
    return pixels


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("helmet\nvest\nglove\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("content", ["helmet\nvest\nglove", "\ufeffhelmet\r\n vest \r\nglove\r\n\r\n"])
def test_each_line_names_a_class(tmp_path: Path, content: str) -> None:
    (tmp_path / "names.txt").write_text(content, encoding="utf-8", newline="")
    assert read_labels(tmp_path / "names.txt") == {0: "helmet", 1: "vest", 2: "glove"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1 is empty"),
        (b"helmet\n\nglove", "line 2 is empty"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
        (b"helmet\nv\x00st", "line 2 is not a name"),
        (b"x" * 101, "line 1 is not a name of at most 100 printable characters"),
        (b"helmet\n" * 200_000, "larger than 1,048,576 bytes"),
    ],
    ids=["empty", "gap", "binary", "control", "long", "large"],
)
def test_another_file_is_rejected_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(UnavailableError) as refused:
        read_labels(tmp_path / "names.txt")
    assert str(refused.value).startswith(f"The labels file {tmp_path / 'names.txt'} cannot be used: ")
    assert reason in str(refused.value)
    assert str(refused.value).endswith("write one class name per line, in the order of the model's class numbers.")


@pytest.mark.parametrize("is_pipe", [False, True])
def test_what_is_not_a_regular_file_is_rejected_without_opening_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_pipe: bool
) -> None:
    def block(*_: object) -> NoReturn:
        pytest.fail("the service opens a pipe without a writer, and hangs")

    path = tmp_path / "names.txt"
    if is_pipe:
        os.mkfifo(path)
    else:
        path.mkdir()
    monkeypatch.setattr(type(path), "open", block)
    with pytest.raises(UnavailableError, match=r"names\.txt cannot be used: it is not a regular file; write"):
        read_labels(path)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be read: No such file or directory; correct the path"):
        read_labels(tmp_path / "names.txt")


@pytest.mark.parametrize("layout", ["v8", "v5", "end to end"])
@pytest.mark.parametrize("has_names", [True, False])
def test_a_labels_file_replaces_the_names_of_the_model(
    tmp_path: Path, labels: Path, layout: Layout, *, has_names: bool
) -> None:
    color_model(tmp_path / "m.onnx", layout, names=NAMES if has_names else None)
    (found,) = YoloModel(tmp_path / "m.onnx", labels).detect(green(), 0.0, 0.5)
    assert (found.name, found.parent) == ("vest", "object")


@pytest.mark.parametrize("layout", ["v8", "v5"])
@pytest.mark.parametrize("has_names", [True, False])
@pytest.mark.parametrize("count", [2, 4])
def test_a_labels_file_with_one_name_too_few_or_too_many_is_rejected(
    tmp_path: Path, labels: Path, layout: Layout, count: int, *, has_names: bool
) -> None:
    color_model(tmp_path / "m.onnx", layout, names=NAMES if has_names else None)
    labels.write_text("\n".join(["helmet", "vest", "glove", "boot"][:count]), encoding="utf-8")
    with pytest.raises(UnavailableError) as refused:
        YoloModel(tmp_path / "m.onnx", labels)
    model = tmp_path / "m.onnx"
    assert str(refused.value) == (
        f"The labels file {labels} has {count} names, but the model {model} has 3 classes; write one name per class."
    )


def test_a_labels_file_is_rejected_if_the_number_of_classes_is_not_certain(tmp_path: Path, labels: Path) -> None:
    """84 x 96 values are 96 candidates of 80 classes, or 84 candidates of 91 classes."""
    color_model(tmp_path / "m.onnx", "v8", names=None, classes=80)
    labels.write_text("thing\n" * 80, encoding="utf-8")
    with pytest.raises(UnavailableError) as refused:
        YoloModel(tmp_path / "m.onnx", labels)
    assert "has 80 names, but the output of the model" in str(refused.value)
    assert "does not show whether it has 80 or 91 classes; export the model with its class names" in str(refused.value)


@pytest.mark.parametrize("model", [None, "moving"])
def test_labels_without_a_model_of_the_user_are_an_error(labels: Path, model: str | None) -> None:
    with pytest.raises(ConfigError, match="name the model, too"):
        check(LocalServiceSettings(labels=labels, model=model))  # type: ignore[arg-type]
