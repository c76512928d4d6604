"""Two cores with more cameras than they can bear, then with as many as they can: is what is sent fresh, is it told?

`python -m tests.bench overload [--minutes 10] [--quick] [--json]`. Sixteen cameras of 1080p25 at 5 a second are half as
much again as two cores decode: each must be sent less often, none later and later, and each must say why. Eight at 2 a
second must then be as fresh after `--minutes` as at the beginning. Ages are true ones, told by the number that is burnt
into each picture. The hub has two cores, whatever the machine has; the cameras and the service have all of them.
Exit code 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.bench.bench import bench, wait
from tests.bench.report import Goal, Report, median, percentile
from tests.support import clips, counter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.hub import CameraNow
    from tests.support.recorder import Received, Recorder

CORES: Final = 2
MOUNT: Final = "/h264"
SETTLE_S: Final = 15.0  # for all to be open, and for the first of them to be late
LATE_MOST_MS: Final = 1500.0  # what is older than a second is not encoded; then it has to be sent
UNEVEN_MOST: Final = 1.5
GROWN_MOST_MS: Final = 50.0
LOADS: Final = {  # what is owed: cameras, pictures a second, and their width
    "overload": (16, 5.0, None),
    "steady": (8, 2.0, 640),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What became of one camera: the true age (ms) of each picture when the service had it, and where it ended."""

    arrivals: list[float]
    ages_ms: list[float]
    end: CameraNow

    def third(self, number: int) -> list[float]:
        """The ages in the first, second or last third (0, 1, 2) of the run."""
        size = len(self.ages_ms) // 3
        return self.ages_ms[number * size : (number + 1) * size]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench overload", description="Too many cameras, and enough.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long eight cameras run  [10]")
    parser.add_argument("--quick", action="store_true", help="a minute of each")
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
        ["pictures a second of a camera, least / median / most", _three(rates)],
        ["pictures that were owed and too late", f"{late:.0f}"],
        ["pictures that were owed and sent", f"{100 * sum(rates) / (count * fps):.0f} %"],
        *_ages(runs),
        ["one of them says", next((run.end.error for run in runs if run.end.error), "nothing")],
    ]
    report.goals += [
        Goal(what="most / least pictures of a camera", value=max(rates) / min(rates), at_most=UNEVEN_MOST),
        Goal(what="age p99 in the last third, ms", value=percentile(_all(runs, 2), 0.99), at_most=LATE_MOST_MS),
        _growth(runs, 10 * GROWN_MOST_MS),
        Goal(what="cameras that do not say so", value=sum(not _says_so(run) for run in runs), at_most=0),
    ]
    return report


def _steady(runs: Sequence[Run], seconds: float) -> Report:
    count, fps, width = LOADS["steady"]
    rates = [len(run.arrivals) / seconds for run in runs]
    what = f"{count} cameras of 1080p25 at {fps:g}/s, {width} px, {seconds / 60:g} min"
    report = Report(name=f"steady: {what}", columns=["", ""])
    report.rows += [["pictures a second of a camera, least / median / most", _three(rates)], *_ages(runs)]
    report.goals += [
        Goal(what="rate off by", value=max(abs(rate / fps - 1) for rate in rates), at_most=0.03),
        _growth(runs, GROWN_MOST_MS),
        Goal(what="cameras that complain", value=sum(run.end.error is not None for run in runs), at_most=0),
    ]
    return report


def _says_so(run: Run) -> bool:
    return run.end.state == "streaming" and (run.end.error or "").startswith("this machine is too busy")


def _growth(runs: Sequence[Run], at_most_ms: float) -> Goal:
    grown = median(_all(runs, 2)) - median(_all(runs, 0))
    return Goal(what="age p50, last third less first, ms", value=grown, at_most=at_most_ms)


def _ages(runs: Sequence[Run]) -> list[list[str]]:
    rows = []
    for number, name in enumerate(("first", "second", "last")):
        ages = _all(runs, number)
        rows.append(
            [
                f"age in the {name} third, p50 / p99 / most",
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
        with _two_cores(), own.hub(entries, recorder) as hub:
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
        number = counter.of_jpeg(recorder.picture(record))
        if number is not None:
            ages.append(1000 * (record.at - unwrapper.find(number, record.at).at))
    return ages


@contextlib.contextmanager
def _two_cores() -> Iterator[None]:
    """For what is started meanwhile."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(mine)[:CORES])
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)
