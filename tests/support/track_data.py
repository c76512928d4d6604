"""Detections and ground truth of real footage, and the score IDF1.

The detections come from the folder in NVISION_HUB_TEST_DATA. The ground truth comes from the PyPI package motmetrics,
which is not a dependency of this project. This module needs only the standard library. Programs that compare other
trackers can therefore use it in their own environments.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIN_OVERLAP: Final = 0.5  # a box with less overlap does not count as the object (as in MOTChallenge)
Xywh = tuple[float, float, float, float]  # left, top, width, height in pixels


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip of the test data."""

    name: str
    fps: float
    frames: int
    width: int
    height: int
    file: str

    def every(self, stride: int) -> range:
        """Return the frame numbers of every `stride`-th frame."""
        return range(1, self.frames + 1, stride)


PETS: Final = Clip(name="PETS09-S2L1", fps=7, frames=795, width=768, height=576, file="pets09-s2l1.detections.txt")
STADTMITTE: Final = Clip(
    name="TUD-Stadtmitte", fps=25, frames=179, width=640, height=480, file="tud-stadtmitte.detections.txt"
)
CAMPUS: Final = Clip(name="TUD-Campus", fps=25, frames=71, width=640, height=480, file="")


def data_folder() -> Path | None:
    """Return the folder with the test data; None if it is missing."""
    text = os.environ.get("NVISION_HUB_TEST_DATA")
    return Path(text) if text and Path(text).is_dir() else None


def read_mot(file: Path) -> dict[int, list[tuple[int, Xywh, float]]]:
    """Read a file in MOTChallenge format.

    The result contains, by frame number, the id, box and confidence of each line.
    """
    found: dict[int, list[tuple[int, Xywh, float]]] = {}
    for line in file.read_text(encoding="ascii").splitlines():
        frame, identity, left, top, width, height, confidence, *_ = (float(text) for text in line.split(","))
        found.setdefault(int(frame), []).append((int(identity), (left, top, width, height), confidence))
    return found


def detections(clip: Clip) -> dict[int, list[tuple[Xywh, float]]]:
    """Return the boxes and confidences from a detector, by frame number."""
    folder = data_folder()
    assert folder is not None, "set NVISION_HUB_TEST_DATA to the folder with the test data"
    return {frame: [(box, sure) for _, box, sure in lines] for frame, lines in read_mot(folder / clip.file).items()}


def truth(clip: Clip) -> dict[int, list[tuple[int, Xywh]]]:
    """Return the ids and boxes of the real people, by frame number. Raises `ImportError` without motmetrics."""
    motmetrics: Any = importlib.import_module("motmetrics")

    lines = read_mot(Path(motmetrics.__file__).parent / "data" / clip.name / "gt.txt")
    return {frame: [(identity, box) for identity, box, _ in found] for frame, found in lines.items()}


def idf1(
    real: Mapping[int, Sequence[tuple[int, Xywh]]],
    found: Mapping[int, Sequence[tuple[Any, Xywh]]],
    frames: Sequence[int],
) -> float:
    """Return the IDF1 of tracks (id and box by frame) according to motmetrics."""
    motmetrics: Any = importlib.import_module("motmetrics")

    account = motmetrics.MOTAccumulator(auto_id=True)
    for frame in frames:
        people, boxes = real.get(frame, ()), found.get(frame, ())
        distances = [[_distance(one, other) for _, other in boxes] for _, one in people]
        account.update([each for each, _ in people], [each for each, _ in boxes], distances)
    scores = motmetrics.metrics.create().compute(account, metrics=["idf1"], name="clip")
    return float(scores["idf1"].iloc[0])


def _distance(one: Xywh, other: Xywh) -> float:
    """Return 1 - IoU. Below `MIN_OVERLAP`, return NaN, which means that the boxes cannot be the same object."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    overlap = shared / (one[2] * one[3] + other[2] * other[3] - shared)
    return 1 - overlap if overlap >= MIN_OVERLAP else float("nan")
