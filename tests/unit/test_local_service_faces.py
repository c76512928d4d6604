"""Face detection with and without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from nvision_hub.errors import UnavailableError
from tests.support.onnx_models import color_model, red_faces
from tests.support.street import SKIN, Person, as_jpeg, street
from workers.local_service.faces import SkinFaces, YunetFaces
from workers.local_service.images import Pixels, open_image

if TYPE_CHECKING:
    from pathlib import Path


def with_patch(skin: tuple[int, int, int], axes: tuple[int, int], *, square: bool = False) -> Pixels:
    image = np.full((480, 640, 3), (150, 125, 110), np.uint8)
    if square:
        cv2.rectangle(image, (320 - axes[0], 240 - axes[1]), (320 + axes[0], 240 + axes[1]), skin, -1)
    else:
        cv2.ellipse(image, (320, 240), axes, 0, 0, 360, skin, -1)
    return open_image(as_jpeg(image))


def test_every_head_is_located() -> None:
    people = [Person(x=200, feet=480, tall=260), Person(x=450, feet=430, tall=200), Person(x=700, feet=400, tall=140)]
    found = SkinFaces().detect(open_image(as_jpeg(street(*people))), 0.0, 0.5)
    assert len(found) == 3
    for person in people:
        head = person.tall // 8
        top = person.feet - person.tall
        face = min(found, key=lambda detection: abs(detection.box.left - person.x))
        assert abs((face.box.left + face.box.right) // 2 - person.x) <= 3
        assert abs(face.box.top - top) <= 3
        assert abs(face.box.bottom - (top + 2 * head)) <= 8


@pytest.mark.parametrize("skin", [(170, 200, 240), SKIN, (90, 125, 180), (60, 85, 130), (45, 60, 95)])
def test_skin_tones_from_fair_to_dark_are_detected(skin: tuple[int, int, int]) -> None:
    assert len(SkinFaces().detect(with_patch(skin, (40, 52)), 0.0, 0.5)) == 1


@pytest.mark.parametrize(
    ("color", "axes", "square"),
    [
        ((200, 80, 40), (40, 52), False),
        ((60, 160, 60), (40, 52), False),
        (SKIN, (40, 52), True),
        (SKIN, (90, 40), False),
        (SKIN, (20, 90), False),
        (SKIN, (2, 3), False),
    ],
    ids=["blue", "green", "square", "lying", "a post", "a speck"],
)
def test_only_upright_skin_colored_ovals_are_faces(
    color: tuple[int, int, int], axes: tuple[int, int], *, square: bool
) -> None:
    assert SkinFaces().detect(with_patch(color, axes, square=square), 0.0, 0.1) == []


def test_a_face_with_eyes_and_mouth_is_still_one_face() -> None:
    image = with_patch(SKIN, (60, 78))
    for x, y in ((298, 225), (342, 225)):
        cv2.circle(image, (x, y), 7, (40, 30, 30), -1)
    cv2.line(image, (300, 280), (340, 280), (60, 50, 120), 6)
    (face,) = SkinFaces().detect(image, 0.0, 0.5)
    assert (face.name, face.parent) == ("face", "human")


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
