"""Moving objects, found in pictures of a street at the rates and sizes that cameras send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.street import Car, Person, as_jpeg, street
from workers.service import moving
from workers.service.moving import FORGET_S, MovingObjects
from workers.service.pictures import Pixels, open_picture

if TYPE_CHECKING:
    from workers.service.detections import Box, Detection


def sent(*things: Person | Car, seed: int, width: int = 960, height: int = 540) -> Pixels:
    """A picture after its way through a camera's JPEG."""
    return open_picture(as_jpeg(street(*things, seed=seed, width=width, height=height)))


def near(box: Box, wanted: tuple[int, int, int, int], within: int) -> bool:
    edges = (box.left, box.top, box.right, box.bottom)
    return all(abs(mine - theirs) <= within for mine, theirs in zip(edges, wanted, strict=True))


def overlap(box: Box, wanted: tuple[int, int, int, int]) -> float:
    """Intersection over union."""
    across = min(box.right, wanted[2]) - max(box.left, wanted[0])
    down = min(box.bottom, wanted[3]) - max(box.top, wanted[1])
    common = max(across, 0) * max(down, 0)
    areas = (box.right - box.left) * (box.bottom - box.top) + (wanted[2] - wanted[0]) * (wanted[3] - wanted[1])
    return common / (areas - common)


def watch(detector: MovingObjects, fps: float, count: int, start: int = 0) -> list[tuple[Person, Car, list[Detection]]]:
    """A person and a car crossing, seen `fps` times a second."""
    seen = []
    for number in range(start, start + count):
        at = number / fps
        person = Person(x=100 + round(45 * (at % 18)), feet=330, tall=110)
        car = Car(x=-240 + round(165 * (at % 7.3)), wheels=520, long=220)
        seen.append((person, car, detector.detect(sent(person, car, seed=number), at, 0.1)))
    return seen


@pytest.mark.parametrize("fps", [0.5, 1, 2, 5])
def test_people_and_cars_are_followed_at_every_rate(fps: float) -> None:
    detector = MovingObjects()
    count = max(round(10 * fps), 20)
    seen = watch(detector, fps, count)[count // 2 :]
    persons = sum(
        any(overlap(d.box, person.box) > 0.5 and d.name == "person" for d in found) for person, _, found in seen
    )
    # Only what is wholly in the picture has a known box.
    whole = [(car, found) for _, car, found in seen if car.x >= 0 and car.x + car.long <= 960]
    cars = sum(any(overlap(d.box, car.box) > 0.5 and d.name == "car" for d in found) for car, found in whole)
    assert persons >= 0.8 * len(seen)
    assert cars >= 0.8 * len(whole) > 0
    assert max(len(found) for _, _, found in seen) <= 4


def test_a_still_noisy_street_has_nothing_in_it() -> None:
    detector = MovingObjects()
    found = [detector.detect(sent(seed=number), number / 5, 0.0) for number in range(30)]
    assert not any(found)


def test_what_stood_in_the_first_picture_leaves_no_ghost() -> None:
    detector = MovingObjects()
    for number in range(4):
        where = Person(x=100, feet=430, tall=150) if number == 0 else Person(x=700, feet=430, tall=150)
        found = detector.detect(sent(where, seed=number), number / 2, 0.1)
    assert not any(near(detection.box, Person(x=100, feet=430, tall=150).box, 40) for detection in found)


@pytest.mark.parametrize("fps", [0.5, 5])
def test_what_stays_becomes_background_as_soon_at_any_rate(fps: float) -> None:
    detector = MovingObjects()
    parked = Car(x=300, wheels=500, long=220)
    for number in range(10):
        detector.detect(sent(seed=number), number / fps, 0.1)
    gone_after_s = next(
        number / fps
        for number in range(round(FORGET_S * fps))
        if not detector.detect(sent(parked, seed=number), (10 + number) / fps, 0.1)
    )
    assert 3 <= gone_after_s <= FORGET_S / 2


def test_another_picture_size_starts_anew_and_finds_again() -> None:
    detector = MovingObjects()
    watch(detector, 1, 6)
    for number in range(5):
        person = Person(x=200 + 250 * number, feet=860, tall=400)
        found = detector.detect(sent(person, seed=number, width=1920, height=1080), 6.0 + number, 0.1)
    assert any(near(detection.box, person.box, 24) for detection in found)


def test_a_camera_that_turns_reports_no_object_as_large_as_the_picture() -> None:
    detector = MovingObjects()
    for number in range(6):
        detector.detect(sent(seed=number), float(number), 0.1)
    turned = np.ascontiguousarray(sent(seed=9)[::-1])
    assert detector.detect(turned, 6.0, 0.1) == []
    assert [detector.detect(turned, 7.0 + number, 0.1) for number in range(3)] == [[], [], []]


def test_a_fainter_thing_is_less_sure_than_a_plain_one() -> None:
    detector = MovingObjects()
    for number in range(5):
        detector.detect(sent(seed=number), float(number), 0.1)
    faint = Person(x=200, feet=430, tall=150, coat=(115, 115, 115))
    plain = Person(x=600, feet=430, tall=150, coat=(20, 20, 220))
    found = detector.detect(sent(faint, plain, seed=9), 5.0, 0.1)
    by_place = sorted(found, key=lambda detection: detection.box.left)
    assert by_place[-1].confidence > by_place[0].confidence
    assert found == sorted(found, key=lambda detection: -detection.confidence)
    surest = found[0].confidence
    detector.detect(sent(seed=10), 6.0, 0.1)
    assert all(d.confidence >= surest for d in detector.detect(sent(faint, plain, seed=9), 7.0, surest))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 3), (400, 1), (1, 400), (64, 2000)])
def test_odd_sizes_are_looked_at_all_the_same(width: int, height: int) -> None:
    detector = MovingObjects()
    rng = np.random.default_rng(1)
    for number in range(5):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for detection in detector.detect(pixels, float(number), 0.0):
            box = detection.box
            assert 0 <= box.left < box.right <= width
            assert 0 <= box.top < box.bottom <= height


@pytest.mark.parametrize(
    ("width", "height", "name"), [(40, 100, "person"), (200, 90, "car"), (100, 100, "object"), (640, 16, "object")]
)
def test_outlines_name_things(width: int, height: int, name: str) -> None:
    assert moving._shape(width, height)[0] == name
