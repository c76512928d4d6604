"""Compare the CPU use of a camera's worker in this checkout with that in another checkout.

`python -m tests.bench paired --baseline DIR [--pairs 9] [--quick] [--json]`. DIR is a checkout of another commit. In
each pair, both hubs run at the same time and stream the same camera to the same service. The two measurements cover the
same seconds, so that other work on the machine affects both. The ratio is the CPU use of this checkout divided by that
of the baseline. The exit code is 1 if the 95 % interval of a median ratio lies entirely above 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from tests.bench.bench import Bench, bench, wait
from tests.bench.cpu import CASES, CLIPS, HTTP, Case
from tests.bench.report import Goal, Report, median
from tests.support.hub import write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.recorder import Recorder

HERE: Final = Path(__file__).parents[2]
MOTION_SETTLE_S: Final = 20.0  # until the default cooldown is over
START_TIMEOUT_S: Final = 60.0
RESAMPLES: Final = 10_000


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench paired", description="Compare two checkouts.")
    parser.add_argument("--baseline", type=Path, required=True, metavar="DIR", help="a checkout of another commit")
    parser.add_argument("--pairs", type=int, default=9, metavar="N", help="pairs per case  [9]")
    parser.add_argument("--quick", action="store_true", help="one short pair per case, as a quick check")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of tables")
    options = parser.parse_args(arguments)
    pairs, seconds = (1, 4.0) if options.quick else (options.pairs, 8.0)
    report = run(options.baseline.resolve(), pairs=pairs, seconds=seconds)
    print(json.dumps(report.as_json(), indent=2) if options.json else report.as_text())
    return 0 if all(goal.met for goal in report.goals) else 1


def run(baseline: Path, *, pairs: int, seconds: float) -> Report:
    """Measure every case of the benchmark `cpu` in pairs."""
    columns = ["one camera", "this checkout, % of a core", "baseline", "median ratio", "95 % interval"]
    report = Report(name="paired", columns=columns)
    with bench() as own:
        camera = own.cameras({mount: clip for mount, clip in CLIPS.items() if mount != HTTP})
        http = own.http_camera(CLIPS[HTTP])
        recorder = own.recorder()
        for case in map(_without_own_cooldown, CASES):
            address = http.url() if case.mount == HTTP else camera.url(case.mount)
            trial = Trial(own=own, recorder=recorder, case=case, address=address, baseline=baseline, seconds=seconds)
            measured = [trial.pair(first_is_baseline=number % 2 == 1) for number in range(pairs)]
            ratios = [ours / theirs for ours, theirs in measured]
            low, high = interval(ratios)
            cells = [f"{median([pair[side] for pair in measured]):.2f}" for side in (0, 1)]
            report.rows.append([case.what, *cells, f"{median(ratios):.3f}", f"{low:.3f} to {high:.3f}"])
            report.goals.append(Goal(what=f"{case.what}: lower end of the interval", value=low, at_most=1.0))
            print(" | ".join(report.rows[-1]), file=sys.stderr, flush=True)
    return report


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median of `ratios`."""
    rng = random.Random(1)  # noqa: S311 - repeatable, not secret
    medians = sorted(median(rng.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[round(0.025 * RESAMPLES)], medians[round(0.975 * RESAMPLES) - 1]


def _without_own_cooldown(case: Case) -> Case:
    """Return the case with the default cooldown, because the name of the cooldown key differs between commits."""
    if case.settings.get("when") != "motion":
        return case
    motion = {key: value for key, value in case.settings["motion"].items() if key == "ignore"}
    return replace(case, settings={**case.settings, "motion": motion}, settle_s=MOTION_SETTLE_S)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One case, to be measured in pairs."""

    own: Bench
    recorder: Recorder
    case: Case
    address: str
    baseline: Path
    seconds: float

    def pair(self, *, first_is_baseline: bool) -> tuple[float, float]:
        """Return the worker's CPU use in this checkout and in the baseline, as a percentage of one core."""
        case, checkouts = self.case, [HERE, self.baseline]
        if first_is_baseline:
            checkouts.reverse()
        with contextlib.ExitStack() as stack:
            workers = {}
            for checkout in checkouts:
                folder = self.own.own_folder()
                camera = {"id": "one", "url": self.address, "fps": case.fps, "max_width": case.width, **case.settings}
                write(folder, [camera], self.recorder)
                workers[checkout] = stack.enter_context(_worker(checkout, folder))
            recorded = len(self.recorder.received("one"))
            self.recorder.wait_for(recorded + 4, "one", START_TIMEOUT_S)
            wait(case.settle_s)
            before = {checkout: _cpu_s(pid) for checkout, pid in workers.items()}
            began = time.monotonic()
            wait(self.seconds)
            spent = {checkout: _cpu_s(pid) - before[checkout] for checkout, pid in workers.items()}
            lasted = time.monotonic() - began
        return 100 * spent[HERE] / lasted, 100 * spent[self.baseline] / lasted


def _cpu_s(pid: int) -> float:
    """Return the CPU time of the live threads of a process in seconds, to the nanosecond (schedstat, first field)."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text(encoding="ascii").split()[0]) for file in files) / 1e9


@contextlib.contextmanager
def _worker(checkout: Path, folder: Path) -> Iterator[int]:
    """Start the hub of a checkout and yield the pid of its camera's worker."""
    with (folder / "hub.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "nvision_hub", "start", folder / "cameras.yaml"],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield _camera_worker(process)
    finally:
        process.terminate()
        process.wait()


def _camera_worker(hub: subprocess.Popen[bytes]) -> int:
    """Wait for the camera's worker and return its pid. A worker's command line contains the worker's name."""
    supervisor, deadline = psutil.Process(hub.pid), time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for child in supervisor.children():
            with contextlib.suppress(psutil.Error):
                if "camera:one" in " ".join(child.cmdline()):
                    return child.pid
        wait(0.1)
    raise AssertionError(f"no camera worker within {START_TIMEOUT_S:.0f} s")
