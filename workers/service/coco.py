"""The 80 classes of the COCO data set, in the order YOLO models number them, and the group of each.

Groups are COCO's supercategories, except that people are `human` and electronics `electronic`, as Nvision calls
them. The data set renamed two classes over time; Nvision's own example says `tvmonitor`.
"""

from __future__ import annotations

from typing import Final

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

# The groups above follow the data set's own order, so that walking them numbers the classes.
COCO_NAMES: Final = tuple(name for names in _GROUPS.values() for name in names.split(", "))

_PARENTS: Final = {name: parent for parent, names in _GROUPS.items() for name in names.split(", ")} | {
    "tvmonitor": "electronic",
    "motorbike": "vehicle",
    "aeroplane": "vehicle",
    "sofa": "furniture",
    "pottedplant": "furniture",
    "diningtable": "furniture",
    "face": "human",
}


def parent_of(name: str) -> str:
    """The group of a class; `object` for one that COCO does not know."""
    return _PARENTS.get(name.lower(), "object")
