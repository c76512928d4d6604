"""The packaged object model on drawn scenes and on real footage, at the hub's default settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nvision_hub.media import cv2_loader
from nvision_hub.nvision.protocol import RequestOptions
from tests.support import footage
from workers.local_service import ssd
from workers.local_service.detection_types import Box, Detection
from workers.local_service.responses import select

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.local_service.images import Pixels

cv2_loader.load()

from workers.demo.scene import SCENES  # noqa: E402 - requires OpenCV

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> ssd.SsdMobilenet:
    return ssd.SsdMobilenet(footage.packaged())


def detected(model: ssd.SsdMobilenet, pixels: Pixels, classes: Iterable[str] = ()) -> list[Detection]:
    options = RequestOptions()
    return select(model.detect(pixels, 0.0, options.confidence_threshold), options, classes)


@pytest.mark.parametrize("name", SCENES)
def test_people_and_cars_of_the_demo_are_detected(model: ssd.SsdMobilenet, name: str) -> None:
    scene = SCENES[name]
    image = scene.backdrop()
    scene.draw(image, 100)
    found = {detection.name: detection for detection in detected(model, image) if detection.confidence > 0.5}
    assert found.keys() == {"person", "car"}
    assert (found["person"].parent, found["car"].parent) == ("human", "vehicle")


@pytest.mark.long
def test_people_of_a_real_street_are_found_with_few_errors(model: ssd.SsdMobilenet) -> None:
    # The first half of the clip has calibrated the confidences.
    reference = footage.reference_people()
    right: list[bool] = []
    people = 0
    for number, frame in footage.frames(footage.opencv_clip("vtest.avi"), 10):
        if number >= 397:
            found = [detection for detection in detected(model, frame) if detection.name == "person"]
            right += footage.are_right(found, reference.get(number, []), 0.4)
            people += len(reference.get(number, []))
    assert sum(right) / people >= 0.9
    assert sum(right) / len(right) >= 0.8


@pytest.mark.long
def test_people_in_a_turned_image_are_no_cars(model: ssd.SsdMobilenet) -> None:
    clip = footage.opencv_clip("vtest.avi")
    turned = [detected(model, np.ascontiguousarray(np.rot90(frame))) for _, frame in footage.frames(clip, 40)]
    cars = [found for each in turned for found in each if found.name == "car"]
    assert len(cars) <= 0.1 * len(turned)


def test_a_tree_in_the_wind_is_nothing(model: ssd.SsdMobilenet) -> None:
    assert not any(detected(model, frame) for _, frame in footage.frames(footage.opencv_clip("tree.avi"), 10))


@pytest.mark.long
def test_every_car_on_a_road_is_found(model: ssd.SsdMobilenet) -> None:
    truth = json.loads(footage.data_file("car-detection.truth.json").read_text(encoding="ascii"))
    hits: dict[int, list[bool]] = {track["id"]: [] for track in truth["tracks"]}
    for number, frame in footage.frames(footage.data_file("car-detection.mp4"), 4):
        shown = truth["boxes"][number] if number < len(truth["boxes"]) else []
        found = [detection for detection in detected(model, frame) if detection.name == "car"] if shown else []
        for track, left, top, width, height in shown:
            right, bottom = left + width, top + height
            if top > 2 and bottom < truth["height"] - 3:  # all of the car is in the frame
                box = (left, top, right, bottom)
                hits[track].append(any(footage.overlap(footage.edges(car.box), box) >= 0.5 for car in found))
    assert {track: sum(each) >= 0.8 * len(each) > 0 for track, each in hits.items()} == dict.fromkeys(hits, True), hits


def test_any_size_of_image_is_accepted(model: ssd.SsdMobilenet) -> None:
    for width, height in ((1, 1), (7, 300), (2000, 3)):
        for detection in model.detect(np.zeros((height, width, 3), np.uint8), 0.0, 0.0):
            box = detection.box
            assert 0 <= box.left < box.right <= width
            assert 0 <= box.top < box.bottom <= height


def test_a_class_and_the_class_that_contains_it_are_one_object() -> None:
    groups = {name: ssd._GROUP_NUMBERS[number] for number, name in enumerate(ssd.NAMES)}
    assert groups["car"] == groups["vehicle"]
    assert len(set(groups.values())) == len(ssd.NAMES) - 6


def test_shoes_are_returned_only_on_request() -> None:
    box = Box(left=0, top=0, right=8, bottom=8)
    found = [
        Detection(name="footwear", confidence=0.9, box=box, part=True),
        Detection(name="cat", confidence=0.9, box=box),
    ]
    options = RequestOptions()
    assert [each.name for each in select(found, options, ())] == ["cat"]
    assert [each.name for each in select(found, options, ["Footwear"])] == ["footwear"]
    assert [each.name for each in select(found, options, ["accessory", "animal"])] == ["footwear", "cat"]


def test_confidence_rises_with_the_score() -> None:
    assert list(ssd.CONFIDENCES) == sorted(set(ssd.CONFIDENCES))
    assert list(ssd.SCORES) == sorted(set(ssd.SCORES))
