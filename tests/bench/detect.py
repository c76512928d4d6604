"""Measure the precision and recall of the local service's detectors, at the hub's default settings.

`python -m tests.bench detect [--pictures FOLDER] [--json]`. There are three kinds of truth:

    road     the outlines of the cars on a road from above, in the folder NVISION_HUB_TEST_DATA
    street   the detections of a Faster R-CNN in vtest.avi, a street with pedestrians, of Debian's package opencv-doc
    faces    one photo of a face, placed in frames of the road, which show no other faces

A box is right if it overlaps a true box by at least half, as intersection over union. The exit code is 1 if a goal is
missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import pytest

from nvision_hub.media import cv2_loader
from nvision_hub.nvision.protocol import RequestOptions
from tests.bench.report import Goal, Report
from tests.support import footage
from tests.support.footage import Edges
from workers.local_service import packaged_models
from workers.local_service.background_subtraction import NAME as MOVING
from workers.local_service.background_subtraction import MovingObjectDetector
from workers.local_service.centerface import CenterFace
from workers.local_service.images import Pixels, downscale, open_image
from workers.local_service.responses import select, visualize
from workers.local_service.ssd import SsdMobilenet

if TYPE_CHECKING:
    from workers.local_service.detection_types import Detector

MIN_OVERLAP: Final = 0.5
STREET_FPS: Final = 7.0
STREET_STEP: Final = 10
STREET_CALIBRATED: Final = 397  # the frames before it have calibrated the confidences of the SSD
ROAD_FPS: Final = 12.5
ROAD_STEP: Final = 4
FACE_HEIGHTS: Final = (20, 25, 30, 40, 60, 120)  # pixels
FACE_PLACES: Final = 12
FRAME: Final = (1280, 720)
PICTURE_SIDE: Final = 640  # pixels
PICTURE_QUALITY: Final = 80
# Limits against regressions of the SSD. The truth of the road includes cars that are partly outside the frame.
MAX_MISSED: Final = {"road": 0.25, "street": 0.1}
MAX_WRONG: Final = {"road": 0.2, "street": 0.25}

Frames = Iterator[tuple[float, Pixels, list[Edges]]]  # time in seconds, image, true boxes


@dataclass(kw_only=True)
class Score:
    """Outcome of one detector on one clip. `others` are boxes of classes that the truth does not contain."""

    frames: int = 0
    true_boxes: int = 0
    right: int = 0
    wrong: int = 0
    others: int = 0
    best: tuple[int, Pixels] | None = field(default=None, repr=False)  # most right boxes in a frame, and the frame

    @property
    def recall(self) -> float:
        return self.right / self.true_boxes

    @property
    def precision(self) -> float | None:
        """Share of the boxes that are right; None if there are no boxes."""
        found = self.right + self.wrong
        return self.right / found if found else None

    def row(self, *names: str) -> list[str]:
        precision = "" if self.precision is None else f"{100 * self.precision:.0f} %"
        others = f"{self.others / self.frames:.2f}"
        return [*names, f"{self.frames}", f"{self.true_boxes}", f"{100 * self.recall:.0f} %", precision, others]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench detect", description="Precision and recall of the local service's detectors."
    )
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write a picture for each detector")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of tables")
    arguments = parser.parse_args(argv)
    cv2_loader.load()
    try:
        report, pictures = _measure()
    except pytest.skip.Exception as missing:
        print(missing, file=sys.stderr)
        return 1
    print(json.dumps([report.as_json()], indent=2) if arguments.json else report.as_text())
    if arguments.pictures is not None:
        for name, picture in pictures.items():
            small, _ = downscale(picture, PICTURE_SIDE)
            path = arguments.pictures / f"detection-{name}.jpg"
            cv2.imwrite(str(path), small, [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY])
    return 0 if all(goal.met for goal in report.goals) else 1


def _measure() -> tuple[Report, dict[str, Pixels]]:
    """Return the report, and one picture for each detector by its short name."""
    ssd = SsdMobilenet(footage.packaged())
    faces = CenterFace(footage.packaged(packaged_models.FACES))
    report = Report(
        name="detect", columns=["clip", "detector", "frames", "true boxes", "recall", "precision", "other boxes/frame"]
    )
    pictures: dict[str, Pixels] = {}
    clips = {
        "road": (_road, {"car", "vehicle"}),
        "street": (_street, {"person"}),
        "street, second half": (lambda: _street(STREET_CALIBRATED), {"person"}),
    }
    for name, (clip, classes) in clips.items():
        for detector_name, detector, wanted in (
            ("ssd", ssd, classes),
            ("moving", MovingObjectDetector(), {MOVING}),
        ):
            score = _score(detector, clip(), wanted)
            report.rows.append(score.row(name, detector_name))
            if name == "road" and score.best is not None:
                pictures[detector_name] = score.best[1]
            if detector_name == "ssd" and name in MAX_MISSED:
                report.goals += [
                    Goal(what=f"{name}: missed share", value=1 - score.recall, at_most=MAX_MISSED[name]),
                    Goal(what=f"{name}: wrong share", value=1 - (score.precision or 0.0), at_most=MAX_WRONG[name]),
                ]
    for height in FACE_HEIGHTS:
        score = _score(faces, _faces(height), {"face"})
        report.rows.append(score.row(f"a face of {height} pixels", "faces"))
        if height == FACE_HEIGHTS[-1]:
            report.goals.append(Goal(what=f"face of {height} pixels: missed share", value=1 - score.recall, at_most=0))
    photo = open_image(footage.ASTRONAUT.read_bytes())
    pictures["faces"] = visualize(photo, faces.detect(photo, 0.0, RequestOptions().confidence_threshold))
    return report, pictures


def _score(detector: Detector, frames: Frames, wanted: set[str]) -> Score:
    options = RequestOptions()
    score = Score()
    for at, pixels, truth in frames:
        found = select(detector.detect(pixels, at, options.confidence_threshold), options, ())
        matching = [each for each in found if each.name in wanted]
        right = sum(footage.are_right(matching, truth, MIN_OVERLAP))
        score.frames += 1
        score.true_boxes += len(truth)
        score.right += right
        score.wrong += len(matching) - right
        score.others += len(found) - len(matching)
        if right and (score.best is None or right > score.best[0]):
            score.best = right, visualize(pixels, found)
    return score


def _road() -> Frames:
    truth = json.loads(footage.data_file("car-detection.truth.json").read_text(encoding="ascii"))["boxes"]
    for number, frame in footage.frames(footage.data_file("car-detection.mp4"), ROAD_STEP):
        cars = truth[number] if number < len(truth) else []
        boxes: list[Edges] = [(left, top, left + width, top + height) for _, left, top, width, height in cars]
        yield number / ROAD_FPS, frame, boxes


def _street(first: int = 0) -> Frames:
    people = footage.reference_people()
    for number, frame in footage.frames(footage.opencv_clip("vtest.avi"), STREET_STEP):
        if number >= first:
            yield number / STREET_FPS, frame, people.get(number, [])


def _faces(height: int) -> Frames:
    """Place the photo of an astronaut at several places in frames of the road."""
    photo = open_image(footage.ASTRONAUT.read_bytes())
    left, top, right, bottom = footage.ASTRONAUT_FACE
    scale = height / (bottom - top)
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    rows, columns = small.shape[:2]
    step = 5 * ROAD_STEP
    for count, (_, road) in zip(
        range(FACE_PLACES), footage.frames(footage.data_file("car-detection.mp4"), step), strict=False
    ):
        frame = np.asarray(cv2.resize(road, FRAME), np.uint8)
        x = (count % 4) * (FRAME[0] - columns) // 3
        y = (count // 4) * (FRAME[1] - rows) // 2
        frame[y : y + rows, x : x + columns] = small
        yield 0.0, frame, [(x + left * scale, y + top * scale, x + right * scale, y + bottom * scale)]
