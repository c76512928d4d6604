"""Check freshness and warnings on two cores, first with too many cameras, then with as many as two cores can handle.

`python -m tests.bench overload [--minutes 10] [--quick] [--json]`. Sixteen 1080p25 cameras at 5 frames per second need
about three cores. Each camera must send fewer frames than configured and must warn. No camera may fall further and
further behind. Then, with eight cameras at 2 frames per second, frames must be as fresh after `--minutes` as at the
start. The age of a frame is its true age, derived from the number in the frame. The hub always has two cores. The
cameras and the service have all cores of the machine. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.bench.bench import bench, two_cores, wait
from tests.bench.report import Goal, Report, median, percentile
from tests.support import clips, counter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.hub import CameraNow
    from tests.support.recorder import Received, Recorder

MOUNT: Final = "/h264"
SETTLE_S: Final = 15.0  # until all cameras are connected and the first cameras fall behind
MAX_LATE_MS: Final = 1500.0  # the hub encodes no frame older than a second; sending takes additional time
MAX_UNEVEN: Final = 1.5
MAX_GROWN_MS: Final = 50.0
LOADS: Final = {  # number of cameras, frames per second of each, and frame width
    "overload": (16, 5.0, None),
    "steady": (8, 2.0, 640),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One camera: the true age (ms) of each frame on arrival at the service, and its last status."""

    arrivals: list[float]
    ages_ms: list[float]
    end: CameraNow

    def third(self, number: int) -> list[float]:
        """Return the ages of the frames in one third of the run. `number` is 0, 1 or 2."""
        size = len(self.ages_ms) // 3
        return self.ages_ms[number * size : (number + 1) * size]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench overload", description="Run too many cameras, then as many as two cores can handle."
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long eight cameras run  [10]")
    parser.add_argument("--quick", action="store_true", help="one minute each")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of tables")
    arguments = parser.parse_args(argv)
    seconds = {"overload": 60.0 if arguments.quick else 120.0}
    seconds["steady"] = 60.0 if arguments.quick else 60 * arguments.minutes
    reports = []
    for name in LOADS:
        runs = _measure(name, seconds[name])
        reports.append(_overload(runs, seconds[name]) if name == "overload" else _steady(runs, seconds[name]))
        if not arguments.json:
            print(reports[-1].as_text(), flush=True)
    if arguments.json:
        print(json.dumps([report.as_json() for report in reports], indent=2))
    return 0 if all(goal.met for report in reports for goal in report.goals) else 1


def _overload(runs: Sequence[Run], seconds: float) -> Report:
    count, fps, _ = LOADS["overload"]
    rates = [len(run.arrivals) / seconds for run in runs]
    late = sum(run.end.metrics.get("frames_dropped_total{reason=late}", 0) for run in runs)
    report = Report(name=f"overload: {count} cameras of 1080p25 at {fps:g}/s, {seconds:.0f} s", columns=["", ""])
    report.rows += [
        ["frames per second of a camera, min / median / max", _three(rates)],
        ["due frames that were late", f"{late:.0f}"],
        ["due frames that were sent", f"{100 * sum(rates) / (count * fps):.0f} %"],
        *_ages(runs),
        ["warning of one camera", next((run.end.error for run in runs if run.end.error), "nothing")],
    ]
    report.goals += [
        Goal(what="max / min frames of a camera", value=max(rates) / min(rates), at_most=MAX_UNEVEN),
        Goal(what="age p99 in the last third, ms", value=percentile(_all(runs, 2), 0.99), at_most=MAX_LATE_MS),
        _growth(runs, 10 * MAX_GROWN_MS),
        Goal(what="cameras without a warning", value=sum(not _says_so(run) for run in runs), at_most=0),
    ]
    return report


def _steady(runs: Sequence[Run], seconds: float) -> Report:
    count, fps, width = LOADS["steady"]
    rates = [len(run.arrivals) / seconds for run in runs]
    what = f"{count} cameras of 1080p25 at {fps:g}/s, {width} px, {seconds / 60:g} min"
    report = Report(name=f"steady: {what}", columns=["", ""])
    report.rows += [["frames per second of a camera, min / median / max", _three(rates)], *_ages(runs)]
    report.goals += [
        Goal(what="rate error", value=max(abs(rate / fps - 1) for rate in rates), at_most=0.03),
        _growth(runs, MAX_GROWN_MS),
        Goal(what="cameras with a warning", value=sum(run.end.error is not None for run in runs), at_most=0),
    ]
    return report


def _says_so(run: Run) -> bool:
    return run.end.state == "streaming" and (run.end.error or "").startswith("this machine is too busy")


def _growth(runs: Sequence[Run], at_most_ms: float) -> Goal:
    grown = median(_all(runs, 2)) - median(_all(runs, 0))
    return Goal(what="age p50, last third minus first, ms", value=grown, at_most=at_most_ms)


def _ages(runs: Sequence[Run]) -> list[list[str]]:
    rows = []
    for number, name in enumerate(("first", "second", "last")):
        ages = _all(runs, number)
        rows.append(
            [
                f"age in the {name} third, p50 / p99 / max",
                f"{median(ages):.0f} / {percentile(ages, 0.99):.0f} / {max(ages):.0f} ms",
            ]
        )
    return rows


def _all(runs: Sequence[Run], third: int) -> list[float]:
    return [age for run in runs for age in run.third(third)]


def _three(values: Sequence[float]) -> str:
    return f"{min(values):.2f} / {median(values):.2f} / {max(values):.2f}"


def _measure(name: str, seconds: float) -> list[Run]:
    count, fps, width = LOADS[name]
    ids = [f"cam-{number:02}" for number in range(count)]
    with bench() as own:
        camera = own.cameras({MOUNT: clips.H264_1080P})
        recorder = own.recorder()
        entries = [{"id": each, "url": camera.url(MOUNT), "fps": fps, "max_width": width} for each in ids]
        with two_cores(), own.hub(entries, recorder) as hub:
            for each in ids:
                recorder.wait_for(1, each, 120)
            wait(SETTLE_S)
            began = {each: len(recorder.received(each)) for each in ids}
            wait(seconds)
            received = {each: recorder.received(each)[began[each] :] for each in ids}
            ends = {each: hub.camera(each) for each in ids}
        sent = camera.push_times(MOUNT)
        return [
            Run(
                arrivals=[record.at for record in received[each]],
                ages_ms=_true_ages(received[each], sent, recorder),
                end=ends[each],
            )
            for each in ids
        ]


def _true_ages(records: Sequence[Received], sent: Sequence[counter.Push], recorder: Recorder) -> list[float]:
    unwrapper, ages = counter.Unwrapper(sent), []
    for record in records:
        number = counter.of_jpeg(recorder.frame(record))
        if number is not None:
            ages.append(1000 * (record.at - unwrapper.find(number, record.at).at))
    return ages
