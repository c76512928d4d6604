"""Face detection with the packaged model and with a YuNet model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from nvision_hub.errors import UnavailableError
from tests.support import footage
from tests.support.onnx_models import color_model, red_faces
from tests.support.street import street
from workers.demo.scene import SCENES
from workers.local_service import packaged_models
from workers.local_service.centerface import CenterFace
from workers.local_service.images import open_image
from workers.local_service.yunet import YunetFaces

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model() -> CenterFace:
    return CenterFace(footage.packaged(packaged_models.FACES))


@pytest.mark.parametrize("width", [1600, 640, 320, 100])
def test_a_face_is_located_at_any_size(model: CenterFace, width: int) -> None:
    photo = open_image(footage.ASTRONAUT.read_bytes())
    scale = width / photo.shape[1]
    (face,) = model.detect(np.asarray(cv2.resize(photo, None, fx=scale, fy=scale), np.uint8), 0.0, 0.5)
    assert (face.name, face.parent) == ("face", "human")
    left, top, right, bottom = (edge * scale for edge in footage.ASTRONAUT_FACE)
    assert footage.overlap(footage.edges(face.box), (left, top, right, bottom)) > 0.7


def test_a_small_face_in_a_large_frame_is_found(model: CenterFace) -> None:
    photo = open_image(footage.ASTRONAUT.read_bytes())
    frame = street(width=1920, height=1080)
    frame[500:600, 900:1000] = cv2.resize(photo, (100, 100), interpolation=cv2.INTER_AREA)  # a face of 38 pixels
    (face,) = model.detect(frame, 0.0, 0.3)
    left, top, right, bottom = (edge * 100 / 320 for edge in footage.ASTRONAUT_FACE)
    assert footage.overlap(footage.edges(face.box), (900 + left, 500 + top, 900 + right, 500 + bottom)) > 0.5


def test_people_of_the_demo_have_faces(model: CenterFace) -> None:
    for name, scene in SCENES.items():
        image = scene.backdrop()
        scene.draw(image, 400)
        assert model.detect(image, 0.0, 0.3), name


def test_leaves_in_the_wind_are_no_faces(model: CenterFace) -> None:
    for _, frame in footage.frames(footage.opencv_clip("tree.avi"), 20):
        assert not model.detect(frame, 0.0, 0.1)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 300), (2000, 3)])
def test_any_size_of_image_is_accepted(model: CenterFace, width: int, height: int) -> None:
    for face in model.detect(np.zeros((height, width, 3), np.uint8), 0.0, 0.0):
        assert 0 <= face.box.left < face.box.right <= width
        assert 0 <= face.box.top < face.box.bottom <= height


def test_a_yunet_model_works_for_images_of_any_size(tmp_path: Path) -> None:
    red_faces(tmp_path / "yunet.onnx")
    model = YunetFaces(tmp_path / "yunet.onnx")
    for width, height in ((640, 480), (333, 217), (1600, 900)):
        image = np.zeros((height, width, 3), np.uint8)
        scale = max(max(width, height) / 800, 1)  # the detector scales larger images to a longest side of 800
        left, top = round(96 * scale), round(64 * scale)
        image[top : top + round(8 * scale), left : left + round(8 * scale)] = (0, 0, 255)
        (face,) = model.detect(image, 0.0, 0.8)
        assert (face.name, face.parent) == ("face", "human")
        assert face.confidence == pytest.approx(1.0, abs=0.05)
        wanted = [round(edge * scale) for edge in (84, 52, 116, 84)]
        edges = (face.box.left, face.box.top, face.box.right, face.box.bottom)
        assert all(abs(mine - theirs) <= 2 for mine, theirs in zip(edges, wanted, strict=True)), (edges, wanted)


def test_another_model_is_rejected_as_not_yunet(tmp_path: Path) -> None:
    color_model(tmp_path / "m.onnx", "v8")
    with pytest.raises(UnavailableError, match="use a YuNet ONNX file"):
        YunetFaces(tmp_path / "m.onnx")
