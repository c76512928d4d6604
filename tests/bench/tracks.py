"""Measure the tracker: real footage with real detections, simulated errors of a detector, and CPU time.

The footage is in the folder NVISION_HUB_TEST_DATA. IDF1 needs the PyPI package motmetrics, which has the ground truth.
Without them, the table has gaps. The parameters of the tracker were chosen on the simulation in
`tests/support/synthetic_people.py`, but its developers knew the results of this benchmark (docs/tracks.md).
"""

from __future__ import annotations

import itertools
import random
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from nvision_hub.config.tracking_section import CountingLine, Tracking, Zone
from nvision_hub.tracking.changes import ChangeType, EndReason
from nvision_hub.tracking.observation import DetectedObject, ObjectBox, Observation
from nvision_hub.tracking.tracker import Tracker
from tests.bench.report import Goal, Report, median
from tests.support.track_data import PETS, STADTMITTE, data_folder, detections, idf1, truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nvision_hub.tracking.changes import Change
    from tests.support.track_data import Clip, Xywh

PETS_TRACKS: Final = (14, 25)  # 19 people; some leave and come back, and some are hidden for longer than `lost_after`
# The best results of other trackers, tuned on these clips (`tests/bench/rival_trackers.py`): C-BIoU of trackers 2.6.1
# at the higher rates, and C-BIoU and norfair 2.3.0 at the lower ones.
RIVAL_TRACKS: Final = {3.5: 28, 1.75: 41}
RIVAL_IDF1: Final = {5.0: 0.788, 2.5: 0.770}
NOISE_RATES: Final = (1.0, 2.0, 5.0)
NOISE_SECONDS: Final = 60.0
MAX_COST_MS: Final = 0.3
COST_OBJECTS: Final = 20


def ids() -> Callable[[float], str]:
    counter = itertools.count(1)
    return lambda _at: str(next(counter))


def run(*, quick: bool) -> Report:
    report = Report(name="tracks", columns=["scene", "results/s", "objects", "tracks", "IDF1", "best rival"])
    if data_folder() is not None:
        _footage(report)
    else:
        report.rows.append(["footage: set NVISION_HUB_TEST_DATA", *[""] * 5])
    for rate in NOISE_RATES:
        _noise(report, rate, range(2 if quick else 10))
    cost_ms = _cost_ms(500 if quick else 3_000)
    report.rows.append([f"CPU per result with {COST_OBJECTS} objects: {cost_ms:.3f} ms", *[""] * 5])
    report.goals.append(Goal(what="CPU per result, ms", value=cost_ms, at_most=MAX_COST_MS))
    return report


def _footage(report: Report) -> None:
    boxes = detections(PETS)
    for stride in (2, 4):
        rate = PETS.fps / stride
        long = sum(span >= 1 for span in _tracks(PETS, boxes, stride)[1].values())
        report.rows.append(
            [f"{PETS.name}, tracks of 1 s or more", f"{rate:g}", "19", f"{long}", "", f"{RIVAL_TRACKS[rate]} tracks"]
        )
        least, most = PETS_TRACKS
        outside = max(least - long, long - most, 0)
        report.goals.append(
            Goal(what=f"{PETS.name} at {rate:g}/s: tracks outside {least} to {most}", value=outside, at_most=0)
        )
    boxes = detections(STADTMITTE)
    for stride in (5, 10):
        rate = STADTMITTE.fps / stride
        found, spans = _tracks(STADTMITTE, boxes, stride)
        if find_spec("motmetrics") is None:
            report.rows.append([STADTMITTE.name, f"{rate:g}", "10", f"{len(spans)}", "needs motmetrics", ""])
            continue
        score = idf1(truth(STADTMITTE), found, STADTMITTE.every(stride))
        rival = RIVAL_IDF1[rate]
        report.rows.append([STADTMITTE.name, f"{rate:g}", "10", f"{len(spans)}", f"{score:.3f}", f"{rival:.3f}"])
        report.goals.append(
            Goal(what=f"{STADTMITTE.name} at {rate:g}/s: IDF1 of the best rival / ours", value=rival / score, at_most=1)
        )


def _tracks(
    clip: Clip, boxes: dict[int, list[tuple[Xywh, float]]], stride: int
) -> tuple[dict[int, list[tuple[str, Xywh]]], dict[str, float]]:
    """Return the boxes of the published tracks by frame, and the duration of each track in seconds.

    The boxes of a track include those that led to its start, because its events contain the whole path.
    """
    tracker = Tracker(Tracking(), ids())
    found: dict[int, list[tuple[str, Xywh]]] = {}
    spans: dict[str, float] = {}
    begun: dict[str, list[tuple[int, Xywh]]] = {}  # boxes of tracks that have not started yet
    for frame in clip.every(stride):
        tracker.update(_observation(clip, frame, boxes.get(frame, ())))
        for track in tracker.tracks:
            if track.frame.id != str(frame):
                continue
            left, top, right, bottom = track.pixels
            begun.setdefault(track.id, []).append((frame, (left, top, right - left, bottom - top)))
            if track.is_started:
                spans[track.id] = track.last_seen_at - track.started_at
                for at, box in begun.pop(track.id):
                    found.setdefault(at, []).append((track.id, box))
    return found, spans


def _observation(clip: Clip, frame: int, boxes: Iterable[tuple[Xywh, float]]) -> Observation:
    return Observation(
        frame_id=str(frame),
        at=frame / clip.fps,
        width=clip.width,
        height=clip.height,
        detections=tuple(
            DetectedObject(
                name="person",
                parent="human",
                confidence=confidence,
                box=ObjectBox(left, top, left + width, top + height),
            )
            for (left, top, width, height), confidence in boxes
        ),
    )


# Zones count people, who stay for some seconds: inertia rightly ignores a car that passes through a zone between
# two results. Lines count everything.
ZONES: Final = {
    "street": {
        "walk": ((0.3, 0.85), (0.7, 0.85), (0.7, 1.0), (0.3, 1.0)),
        "far": ((0.2, 0.5), (0.6, 0.5), (0.6, 0.58), (0.2, 0.58)),
    },
    "crossing": {"middle": ((0.35, 0.45), (0.65, 0.45), (0.65, 0.8), (0.35, 0.8))},
    "parking": {
        "left": ((0.2, 0.5), (0.55, 0.5), (0.45, 0.75), (0.1, 0.75)),
        "front": ((0.3, 0.85), (0.6, 0.85), (0.6, 1.0), (0.3, 1.0)),
    },
}
LINES: Final = {
    "street": {"mid": ((0.5, 0.45), (0.5, 1.0))},
    "crossing": {"left": ((0.3, 0.55), (0.3, 1.0)), "across": ((0.2, 0.7), (0.8, 0.7))},
    "parking": {"mid": ((0.5, 0.4), (0.5, 1.0))},
}


def _noise(report: Report, rate: float, seeds: range) -> None:
    """Track the demo's scenes through a detector with errors, and compare with the true paths."""
    from tests.support import tracked_scenes as scenes  # noqa: PLC0415 - loads OpenCV

    real = found = false = worst = 0
    for name, zones in ZONES.items():
        scene = scenes.TrueScene(name)
        paths = {key: path for key, path in scene.objects(NOISE_SECONDS).items() if path[-1][0] - path[0][0] >= 1}
        for seed in seeds:
            rng = random.Random(f"{name} {seed}")  # noqa: S311 - a simulation
            changes, untrue = _tracked(scene, name, rate, rng)
            real += len(paths)
            found += sum(each.type is ChangeType.STARTED for each in changes)
            false += untrue
            for zone, points in zones.items():
                expected = sum(
                    scenes.true_visits(path, points, 2.0) for key, path in paths.items() if scene.name(key) == "person"
                )
                entered = sum(each.zone == zone and each.type is ChangeType.ZONE_ENTERED for each in changes)
                worst = max(worst, abs(entered - expected))
            for line, (a, b) in LINES[name].items():
                crossings = [scenes.true_crossings(path, a, b) for path in paths.values()]
                for way in ("in", "out"):
                    counted = sum(each.line == line and each.direction == way for each in changes)
                    worst = max(worst, abs(counted - sum(each[way] for each in crossings)))
    report.rows.append([f"demo's scenes with errors, {len(seeds)} seeds", f"{rate:g}", f"{real}", f"{found}", "", ""])
    what = f"errors at {rate:g}/s"
    share = 100 * abs(found / real - 1)
    report.goals += [
        Goal(what=f"{what}: tracks more or fewer than objects, %", value=share, at_most=10),
        Goal(what=f"{what}: tracks from false boxes alone", value=false, at_most=0),
        Goal(what=f"{what}: largest error of a count of a zone or line in 60 s", value=worst, at_most=1),
    ]


def _tracked(scene: object, name: str, rate: float, rng: random.Random) -> tuple[list[Change], int]:
    """Return all changes, and the number of tracks whose every detection was false."""
    from tests.support import tracked_scenes as scenes  # noqa: PLC0415 - loads OpenCV

    assert isinstance(scene, scenes.TrueScene)
    tracker = Tracker(
        Tracking(),
        ids(),
        zones={key: Zone(points=points, classes=("person",)) for key, points in ZONES[name].items()},
        lines={key: CountingLine(points=points) for key, points in LINES[name].items()},
    )
    changes: list[Change] = []
    near: dict[str, bool] = {}  # by track: whether one of its boxes was that of an object
    for step in range(int(NOISE_SECONDS * rate)):
        at = 1 + step / rate
        changes += tracker.update(scenes.observe(scene, at, rng, scenes.DetectorErrors()))
        boxes = [each.box for each in scene.visible(at)]
        for track in tracker.open:
            if track.last_seen_at == at:
                near[track.id] = near.get(track.id, False) or any(track.box.overlap(box) > 0.3 for box in boxes)
    changes += tracker.end_all(EndReason.STOPPED)
    return changes, sum(not real for real in near.values())


def _cost_ms(results: int) -> float:
    """Return the median CPU time of a result with `COST_OBJECTS` moving objects, two zones and two lines."""
    rng = random.Random(1)  # noqa: S311 - a simulation
    square = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
    line = ((0.5, 0.0), (0.5, 1.0))
    tracker = Tracker(
        Tracking(),
        ids(),
        zones={"one": Zone(points=square), "two": Zone(points=square[:3])},
        lines={"one": CountingLine(points=line), "two": CountingLine(points=(line[1], line[0]))},
    )
    places = [(rng.uniform(0, 1200), rng.uniform(150, 720), rng.uniform(-40, 40)) for _ in range(COST_OBJECTS)]
    times = []
    for step in range(results):
        at = step / 5
        boxes = []
        for x, y, speed in places:
            left = (x + speed * at) % 1240 + rng.gauss(0, 2)
            box = ObjectBox(left, y - 120 + rng.gauss(0, 4), left + 50 + rng.gauss(0, 2), y + rng.gauss(0, 4))
            boxes.append(DetectedObject(name="person", parent="human", confidence=rng.uniform(0.6, 0.95), box=box))
        observation = Observation(frame_id=str(step), at=at, width=1280, height=720, detections=tuple(boxes))
        began = time.thread_time_ns()
        tracker.update(observation)
        times.append((time.thread_time_ns() - began) / 1e6)
    return median(times)
