"""Models that cannot be used: a sentence with the file, the cause and the fix."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import cv2
import numpy as np
import pytest

from nvision_hub.errors import UnavailableError
from nvision_hub.media import cv2_loader
from tests.support.onnx_models import color_model
from workers.local_service import detectors, packaged_models
from workers.local_service.inference import PerThread, opencv_reason
from workers.local_service.model_trial import failure, survive
from workers.local_service.settings import LocalServiceSettings

if TYPE_CHECKING:
    from workers.local_service.packaged_models import PackagedModel

cv2_loader.load()


@pytest.fixture(params=["OBJECTS", "FACES"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PackagedModel:
    """Install a packaged model without content. The other model is not installed."""
    for name in ("OBJECTS", "FACES"):
        installed = replace(getattr(packaged_models, name), path=tmp_path / name, sha256=hashlib.sha256().hexdigest())
        monkeypatch.setattr(packaged_models, name, installed)
    found: PackagedModel = getattr(packaged_models, request.param)
    found.path.write_bytes(b"")
    return found


def install(monkeypatch: pytest.MonkeyPatch, model: PackagedModel, content: bytes) -> None:
    """Replace the content of the model, and the hash that it must have."""
    model.path.write_bytes(content)
    monkeypatch.setattr(packaged_models, model.path.name, replace(model, sha256=hashlib.sha256(content).hexdigest()))


def refusal() -> str:
    with pytest.raises(UnavailableError) as refused:
        detectors.choose_detectors(LocalServiceSettings())
    return str(refused.value)


def test_a_damaged_packaged_model_is_reported(model: PackagedModel) -> None:
    model.path.write_bytes(b"half of a model")
    assert refusal() == (
        f"The packaged model {model.path} is damaged: the SHA-256 hash of its 15 bytes is wrong; reinstall nvision-hub."
    )


def test_an_unreadable_packaged_model_is_reported(model: PackagedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal().startswith(f"The packaged model {model.path} cannot be read: Permission denied; correct")


@pytest.mark.parametrize("content", [b"", b"no model at all"])
def test_a_packaged_model_that_opencv_rejects_is_reported(
    model: PackagedModel, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, model, content)
    message = refusal()
    assert message.startswith(f"OpenCV {cv2.__version__} cannot run the packaged model {model.path}: ")
    assert message.endswith("; reinstall nvision-hub and its dependencies.")


def test_a_packaged_model_with_other_outputs_is_reported(
    model: PackagedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    color_model(tmp_path / "other.onnx", "v8")
    install(monkeypatch, model, (tmp_path / "other.onnx").read_bytes())
    monkeypatch.setattr(cv2.dnn, "readNetFromTFLite", cv2.dnn.readNetFromONNX)
    assert f"cannot run the packaged model {model.path}: " in refusal()


def test_the_first_thread_takes_the_network_of_the_start() -> None:
    numbers = count()
    networks = PerThread(lambda: next(numbers))
    networks.prepare()
    assert [networks.get(), networks.get()] == [0, 0]
    with ThreadPoolExecutor(1) as other:
        assert other.submit(networks.get).result() == 1


def out_of_memory() -> NoReturn:
    cv2.resize(np.zeros((1, 1), np.uint8), (2**31 - 1, 2**30))
    raise AssertionError


def report(error: Exception) -> str:
    """Return the report of a trial in which OpenCV raises `error` after it ran out of memory once."""
    with pytest.raises(cv2.error):
        out_of_memory()

    def load() -> NoReturn:
        try:
            raise error
        except cv2.error as cause:
            raise UnavailableError("OpenCV cannot run it.") from cause

    return failure(load, Path("m.onnx"), "a YOLO model")


def test_lack_of_memory_is_reported() -> None:
    message = "The model m.onnx needs more than 8 GiB of memory; use a YOLO model."
    assert failure(out_of_memory, Path("m.onnx"), "a YOLO model") == message
    assert report(cv2.error("std::bad_alloc")) == message
    assert report(MemoryError()) == message


def test_another_error_is_not_reported_as_lack_of_memory() -> None:
    assert report(cv2.error("Unknown C++ exception from OpenCV code")) == "OpenCV cannot run it."
    assert report(ValueError("7 is no size")) == (
        "The model m.onnx cannot be used (ValueError: 7 is no size); use a YOLO model."
    )


def test_the_reason_is_the_one_of_the_error_itself() -> None:
    with pytest.raises(cv2.error) as raised:
        out_of_memory()
    assert opencv_reason(raised.value).startswith("Failed to allocate ")
    assert "\n" not in opencv_reason(raised.value)
    assert opencv_reason(cv2.error("std::exception")) == "std::exception"


def test_only_a_regular_file_is_a_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")  # a reader would wait for a writer
    for path in (tmp_path, tmp_path / "pipe.onnx"):
        with pytest.raises(UnavailableError, match="is not a regular file; use a YOLO model"):
            survive(lambda: None, path, "a YOLO model")


def test_a_model_whose_trial_ends_without_a_result_is_refused(tmp_path: Path) -> None:
    def end() -> NoReturn:
        raise SystemExit(0)

    with pytest.raises(UnavailableError, match=r"model\.onnx cannot be used; use a YOLO model"):
        survive(end, tmp_path / "model.onnx", "a YOLO model")
