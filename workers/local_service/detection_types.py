"""COCO classes, the groups of all known classes, the type `Detection` and the interface of detectors.

Class groups are COCO's supercategories, but Nvision calls two of them `human` and `electronic`. Older models use older
class names, such as `tvmonitor` in an example in Nvision's documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.local_service.images import Pixels

_GROUPS: Final = {
    "human": "person",
    "vehicle": "bicycle, car, motorcycle, airplane, bus, train, truck, boat",
    "outdoor": "traffic light, fire hydrant, stop sign, parking meter, bench",
    "animal": "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
    "accessory": "backpack, umbrella, handbag, tie, suitcase",
    "sports": "frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, "
    "tennis racket",
    "kitchen": "bottle, wine glass, cup, fork, knife, spoon, bowl",
    "food": "banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake",
    "furniture": "chair, couch, potted plant, bed, dining table, toilet",
    "electronic": "tv, laptop, mouse, remote, keyboard, cell phone",
    "appliance": "microwave, oven, toaster, sink, refrigerator",
    "indoor": "book, clock, vase, scissors, teddy bear, hair drier, toothbrush",
}
# The order of the classes matches the class numbers of YOLO models, because the groups are in the order of the data
# set.
COCO_NAMES: Final = tuple(name for names in _GROUPS.values() for name in names.split(", "))

_PARENTS: Final = {name: parent for parent, names in _GROUPS.items() for name in names.split(", ")} | {
    "tvmonitor": "electronic",
    "motorbike": "vehicle",
    "aeroplane": "vehicle",
    "sofa": "furniture",
    "pottedplant": "furniture",
    "diningtable": "furniture",
    "face": "human",
    # classes of Open Images
    "vehicle": "vehicle",
    "stationary bicycle": "sports",
    "cattle": "animal",
    "desk": "furniture",
    "table": "furniture",
    "mug": "kitchen",
    "coffee cup": "kitchen",
    "computer monitor": "electronic",
    "computer mouse": "electronic",
    "camera": "electronic",
    "boot": "accessory",
    "footwear": "accessory",
    "high heels": "accessory",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle in pixels of the received image. `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """A detected object: class, confidence (0..1) and box.

    `part` marks a detection that belongs to another object, such as a shoe. Only requests for its class receive it.
    """

    name: str
    confidence: float
    box: Box
    part: bool = False

    @property
    def parent(self) -> str:
        """Group of the object's class in Nvision messages; `object` for an unknown class."""
        return _PARENTS.get(self.name.lower(), "object")


class Detector(Protocol):
    """Object detector for the images of one source. Images arrive in order and one at a time."""

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:
        """Return the objects in an image (BGR, height x width x 3) that arrived at `at` (monotonic seconds).

        The list is sorted by descending confidence. It may omit objects with a confidence below `threshold` (0..1).
        """
        ...


def detection_at(
    edges: tuple[float, float, float, float], pixels: Pixels, name: str, confidence: float, *, part: bool = False
) -> Detection | None:
    """Return a detection with rounded and clipped edges (left, top, right, bottom); None for a box outside it."""
    height, width = pixels.shape[:2]
    left, right = (min(max(round(x), 0), width) for x in edges[::2])
    top, bottom = (min(max(round(y), 0), height) for y in edges[1::2])
    if left >= right or top >= bottom:
        return None
    box = Box(left=left, top=top, right=right, bottom=bottom)
    return Detection(name=name, confidence=confidence, box=box, part=part)


def by_confidence(detections: Iterable[Detection | None]) -> list[Detection]:
    """Return the detections that are not None, sorted by descending confidence."""
    return sorted((it for it in detections if it is not None), key=lambda it: it.confidence, reverse=True)
