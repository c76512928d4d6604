"""Compare trackers of other projects: `python -m tests.bench.rival_trackers trackers|norfair [TRACKER ...]`.

Each library needs an environment of its own, for example:

    python -m venv /tmp/rivals && /tmp/rivals/bin/pip install trackers motmetrics
    NVISION_HUB_TEST_DATA=... /tmp/rivals/bin/python -m tests.bench.rival_trackers trackers

For each tracker and rate, the program tries every combination of a grid of settings. It prints the best IDF1 on
TUD-Stadtmitte, which is thus tuned on the very data that it is judged by, and the number of tracks for the 19 people of
PETS09-S2L1 with the default settings and with those whose number comes closest to 19.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from typing import TYPE_CHECKING, Any, Final

from tests.support.track_data import PETS, STADTMITTE, Xywh, detections, idf1, truth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.track_data import Clip

Found = dict[int, list[tuple[int, Xywh]]]

_COMMON: Final = {"lost_track_buffer": (30, 60, 120, 240), "minimum_consecutive_frames": (1, 2)}
_HIGH: Final = {"track_activation_threshold": (0.4, 0.6, 0.8), "high_conf_det_threshold": (0.4, 0.6)}
_IOU: Final = {"minimum_iou_threshold": (0.02, 0.1, 0.2, 0.3)}
GRIDS: Final[dict[str, dict[str, tuple[Any, ...]]]] = {
    "SORTTracker": {**_COMMON, **_IOU, "track_activation_threshold": (0.25, 0.5, 0.8)},
    "ByteTrackTracker": {**_COMMON, **_IOU, **_HIGH},
    "OCSORTTracker": {
        **_COMMON,
        **_IOU,
        "high_conf_det_threshold": (0.4, 0.6),
        "direction_consistency_weight": (0, 0.2),
    },
    "CBIoUTracker": {
        **_COMMON,
        **_HIGH,
        "buffer_ratio_first": (0.3, 0.6),
        "buffer_ratio_second": (0.5, 1.0),
        "minimum_iou_threshold_first_assoc": (0.05, 0.2),
    },
    "norfair": {
        "distance": ("iou", "foot"),
        "distance_threshold": (0.5, 0.7, 0.9, 0.98, 1.5),
        "hit_counter_max": (2, 4, 8, 15),
        "initialization_delay": (0, 1),
        "detection_threshold": (0.2, 0.5, 0.8),
    },
}


def _roboflow(name: str, rate: float, settings: dict[str, Any]) -> Any:
    """Return the update function of a tracker of the package `trackers`."""
    numpy, supervision = importlib.import_module("numpy"), importlib.import_module("supervision")
    tracker = getattr(importlib.import_module("trackers"), name)(frame_rate=rate, **settings)

    def update(boxes: list[tuple[Xywh, float]]) -> Iterator[tuple[int, Xywh]]:
        corners = [(left, top, left + width, top + height) for (left, top, width, height), _ in boxes]
        given = supervision.Detections(
            xyxy=numpy.array(corners, float).reshape(-1, 4),
            confidence=numpy.array([sure for _, sure in boxes], float),
            class_id=numpy.zeros(len(boxes), int),
        )
        found = tracker.update(given)
        ids = () if found.tracker_id is None else found.tracker_id
        for identity, (left, top, right, bottom) in zip(ids, found.xyxy, strict=True):
            if identity >= 0:
                yield int(identity), (left, top, right - left, bottom - top)

    return update


def _norfair(_name: str, _rate: float, settings: dict[str, Any]) -> Any:
    numpy, norfair = importlib.import_module("numpy"), importlib.import_module("norfair")
    settings = dict(settings)

    def foot(detection: Any, track: Any) -> float:
        """Return the distance of the foot points in units of the object's height."""
        (left, top), (right, bottom) = track.estimate
        (one_left, _), (one_right, one_bottom) = detection.points
        across = (left + right - one_left - one_right) / 2
        return float(numpy.hypot(across, bottom - one_bottom) / max(1.0, bottom - top))

    distance = settings.pop("distance", "iou")
    settings.setdefault("distance_threshold", 0.7)
    tracker = norfair.Tracker(distance_function=foot if distance == "foot" else "iou", **settings)

    def update(boxes: list[tuple[Xywh, float]]) -> Iterator[tuple[int, Xywh]]:
        given = [
            norfair.Detection(
                numpy.array([[left, top], [left + width, top + height]]),
                scores=numpy.array([sure, sure]),
                data=(left, top, width, height),
            )
            for (left, top, width, height), sure in boxes
        ]
        for track in tracker.update(detections=given):
            if track.last_detection in given:
                yield int(track.id), track.last_detection.data

    return update


def _tracks(update: Any, clip: Clip, boxes: dict[int, list[tuple[Xywh, float]]], stride: int) -> Found:
    return {frame: list(update(boxes.get(frame, []))) for frame in clip.every(stride)}


def _long(found: Found, fps: float) -> int:
    """Return the number of tracks of one second or more."""
    spans: dict[int, list[int]] = {}
    for frame, tracks in found.items():
        for identity, _ in tracks:
            spans.setdefault(identity, []).append(frame)
    return sum((max(frames) - min(frames)) / fps >= 1 for frames in spans.values())


def _combinations(grid: dict[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def main(library: str, *only: str) -> None:
    create = _norfair if library == "norfair" else _roboflow
    names = [name for name in GRIDS if (name == "norfair") is (library == "norfair") and (not only or name in only)]
    people, real = detections(STADTMITTE), truth(STADTMITTE)
    pets = detections(PETS)
    print("| tracker | results/s | tracks, default | tracks, tuned | IDF1, default | IDF1, tuned |")
    for name in names:
        for stride, pets_stride in ((5, 2), (10, 4)):
            rate, pets_rate = STADTMITTE.fps / stride, PETS.fps / pets_stride

            def score(settings: dict[str, Any], name: str = name, rate: float = rate, stride: int = stride) -> float:
                found = _tracks(create(name, rate, settings), STADTMITTE, people, stride)
                return idf1(real, found, STADTMITTE.every(stride))

            def count(
                settings: dict[str, Any], name: str = name, rate: float = pets_rate, stride: int = pets_stride
            ) -> int:
                return _long(_tracks(create(name, rate, settings), PETS, pets, stride), PETS.fps)

            best = max((score(settings), index) for index, settings in enumerate(_combinations(GRIDS[name])))
            tuned = list(_combinations(GRIDS[name]))[best[1]]
            print(
                f"| {name} | {rate:g} (PETS {pets_rate:g}) | {count({})} | {count(tuned)} | {score({}):.3f} |"
                f" {best[0]:.3f} | {tuned}",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
