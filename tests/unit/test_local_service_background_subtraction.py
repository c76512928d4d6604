"""Detection of moving objects at the frame rates and frame sizes of cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.street import Car, Person, as_jpeg, street
from workers.local_service.background_subtraction import FORGET_S, MovingObjectDetector
from workers.local_service.images import Pixels, open_image

if TYPE_CHECKING:
    from workers.local_service.detection_types import Box, Detection


def sent(*things: Person | Car, seed: int, width: int = 960, height: int = 540) -> Pixels:
    """Return an image after JPEG compression."""
    return open_image(as_jpeg(street(*things, seed=seed, width=width, height=height)))


def near(box: Box, wanted: tuple[int, int, int, int], within: int) -> bool:
    edges = (box.left, box.top, box.right, box.bottom)
    return all(abs(mine - theirs) <= within for mine, theirs in zip(edges, wanted, strict=True))


def overlap(box: Box, wanted: tuple[int, int, int, int]) -> float:
    """Return the intersection over union of two boxes."""
    across = min(box.right, wanted[2]) - max(box.left, wanted[0])
    down = min(box.bottom, wanted[3]) - max(box.top, wanted[1])
    common = max(across, 0) * max(down, 0)
    areas = (box.right - box.left) * (box.bottom - box.top) + (wanted[2] - wanted[0]) * (wanted[3] - wanted[1])
    return common / (areas - common)


def detect_crossing(
    detector: MovingObjectDetector, fps: float, count: int, start: int = 0
) -> list[tuple[Person, Car, list[Detection]]]:
    """Detect a person and a car that cross the image, at `fps` frames per second."""
    seen = []
    for number in range(start, start + count):
        at = number / fps
        person = Person(x=100 + round(45 * (at % 18)), feet=330, tall=110)
        car = Car(x=-240 + round(165 * (at % 7.3)), wheels=520, long=220)
        seen.append((person, car, detector.detect(sent(person, car, seed=number), at, 0.1)))
    return seen


@pytest.mark.parametrize("fps", [0.5, 1, 2, 5])
def test_moving_objects_are_followed_at_every_rate(fps: float) -> None:
    detector = MovingObjectDetector()
    count = max(round(10 * fps), 20)
    seen = detect_crossing(detector, fps, count)[count // 2 :]
    persons = sum(
        any(overlap(d.box, person.box) > 0.5 and d.name == "moving" for d in found) for person, _, found in seen
    )
    # The expected box is known only while the car is completely in the image.
    whole = [(car, found) for _, car, found in seen if car.x >= 0 and car.x + car.long <= 960]
    cars = sum(any(overlap(d.box, car.box) > 0.5 and d.name == "moving" for d in found) for car, found in whole)
    assert persons >= 0.8 * len(seen)
    assert cars >= 0.8 * len(whole) > 0
    assert max(len(found) for _, _, found in seen) <= 4


def test_a_noisy_street_without_motion_has_no_detections() -> None:
    detector = MovingObjectDetector()
    found = [detector.detect(sent(seed=number), number / 5, 0.0) for number in range(30)]
    assert not any(found)


def test_objects_in_the_first_image_leave_no_ghost() -> None:
    detector = MovingObjectDetector()
    for number in range(4):
        where = Person(x=100, feet=430, tall=150) if number == 0 else Person(x=700, feet=430, tall=150)
        found = detector.detect(sent(where, seed=number), number / 2, 0.1)
    assert not any(near(detection.box, Person(x=100, feet=430, tall=150).box, 40) for detection in found)


@pytest.mark.parametrize("fps", [0.5, 5])
def test_stationary_objects_become_background_at_any_rate(fps: float) -> None:
    detector = MovingObjectDetector()
    parked = Car(x=300, wheels=500, long=220)
    for number in range(10):
        detector.detect(sent(seed=number), number / fps, 0.1)
    gone_after_s = next(
        number / fps
        for number in range(round(FORGET_S * fps))
        if not detector.detect(sent(parked, seed=number), (10 + number) / fps, 0.1)
    )
    assert 3 <= gone_after_s <= FORGET_S / 2


def test_a_changed_image_size_restarts_detection() -> None:
    detector = MovingObjectDetector()
    detect_crossing(detector, 1, 6)
    for number in range(5):
        person = Person(x=200 + 250 * number, feet=860, tall=400)
        found = detector.detect(sent(person, seed=number, width=1920, height=1080), 6.0 + number, 0.1)
    assert any(near(detection.box, person.box, 24) for detection in found)


def test_a_turning_camera_reports_no_object_as_large_as_the_image() -> None:
    detector = MovingObjectDetector()
    for number in range(6):
        detector.detect(sent(seed=number), float(number), 0.1)
    flipped = np.ascontiguousarray(sent(seed=9)[::-1])
    assert detector.detect(flipped, 6.0, 0.1) == []
    assert [detector.detect(flipped, 7.0 + number, 0.1) for number in range(3)] == [[], [], []]


def test_a_faint_object_has_less_confidence_than_a_clear_one() -> None:
    detector = MovingObjectDetector()
    for number in range(5):
        detector.detect(sent(seed=number), float(number), 0.1)
    faint = Person(x=200, feet=430, tall=150, coat=(115, 115, 115))
    plain = Person(x=600, feet=430, tall=150, coat=(20, 20, 220))
    found = detector.detect(sent(faint, plain, seed=9), 5.0, 0.1)
    by_place = sorted(found, key=lambda detection: detection.box.left)
    assert 0.5 >= by_place[-1].confidence > by_place[0].confidence
    assert found == sorted(found, key=lambda detection: -detection.confidence)
    surest = found[0].confidence
    detector.detect(sent(seed=10), 6.0, 0.1)
    assert all(d.confidence >= surest for d in detector.detect(sent(faint, plain, seed=9), 7.0, surest))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 3), (400, 1), (1, 400), (64, 2000)])
def test_odd_image_sizes_are_accepted(width: int, height: int) -> None:
    detector = MovingObjectDetector()
    rng = np.random.default_rng(1)
    for number in range(5):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for detection in detector.detect(pixels, float(number), 0.0):
            box = detection.box
            assert 0 <= box.left < box.right <= width
            assert 0 <= box.top < box.bottom <= height
