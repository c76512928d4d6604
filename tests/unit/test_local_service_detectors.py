"""The choice between the packaged model and the detector of moving objects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nvision_hub.media import cv2_loader

cv2_loader.load()

from workers.local_service import detectors, packaged_models  # noqa: E402 - requires OpenCV
from workers.local_service.background_subtraction import MovingObjectDetector  # noqa: E402
from workers.local_service.settings import LocalServiceSettings  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_without_the_packaged_model_moving_objects_are_the_fallback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    absent = replace(packaged_models.OBJECTS, path=tmp_path / "absent.tflite")
    monkeypatch.setattr(packaged_models, "OBJECTS", absent)
    choice = detectors.choose_detectors(LocalServiceSettings())["object-detection"]
    assert isinstance(choice.create(), MovingObjectDetector)
    assert choice.is_fallback


def test_moving_objects_can_be_chosen() -> None:
    choice = detectors.choose_detectors(LocalServiceSettings(model="moving"))["object-detection"]
    assert isinstance(choice.create(), MovingObjectDetector)
    assert choice.create() is not choice.create()
    assert not choice.is_fallback
