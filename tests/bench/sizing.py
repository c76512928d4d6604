"""Measure the cost of a camera by codec, size, rate and mode: `python -m tests.bench sizing [--quick] [--json]`.

Each cell shows the CPU use of the camera's process as a percentage of one core, and how many of these cameras fill a
core. The figures are for planning and are valid only for the measured machine. `nvision_hub/cluster/cost_model.py`
contains the model fitted to them. An asterisk marks a figure that is too low, because the busy machine dropped frames.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import psutil

from tests.bench.bench import bench, cpu_s, wait
from tests.bench.report import Report
from tests.support.clips import ClipSpec, Codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.bench import Bench
    from tests.support.hub import CameraNow
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera

SIZES: Final = {"720p": (1280, 720, 2000), "1080p": (1920, 1080, 4000), "4K": (3840, 2160, 12000)}
CODECS: Final[tuple[Codec, ...]] = ("h264", "h265", "mjpeg")
RATES: Final = (0.5, 1.0, 5.0, 10.0)
QUICK_RATES: Final = (0.5, 5.0)
MODES: Final = ("always", "motion")
AT_ONCE: Final = {"720p": 4, "1080p": 2, "4K": 1}  # number of rates measured at once, each in both modes
SETTLE_S: Final = 9.0
SECONDS: Final = 10.0  # a multiple of the keyframe interval and of every frame interval
NOT_OVER_RTP: Final = {("mjpeg", "4K")}  # RFC 2435, 3.1.5: at most 2040 pixels wide
LATE: Final = "frames_dropped_total{reason=late}"
# The frame counter in the corner changes in every frame and must not count as motion.
MOTION: Final = {
    "when": "motion",
    "motion": {"cooldown": 2, "ignore": [[[0, 0], [0.51, 0], [0.51, 0.04], [0, 0.04]]]},
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench sizing", description="Cost of cameras on this machine."
    )
    parser.add_argument("--quick", action="store_true", help="two rates, and no 4K")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of a table")
    arguments = parser.parse_args(argv)
    report = run(quick=arguments.quick)
    print(json.dumps(report.as_json(), indent=2) if arguments.json else report.as_text())
    return 0


def run(*, quick: bool) -> Report:
    """Measure only a few cameras at a time, so that two cores suffice."""
    rates = QUICK_RATES if quick else RATES
    report = Report(
        name="sizing: % of a core, and cameras a core",
        columns=["camera, 25 frames per second", "when", *(f"{rate:g}/s" for rate in rates)],
    )
    for codec, size in product(CODECS, list(SIZES)[:2] if quick else SIZES):
        if (codec, size) in NOT_OVER_RTP:
            continue
        cells: dict[tuple[str, float], str] = {}
        with bench() as own:
            camera = own.cameras({f"/{mode}": _clip(codec, size, mode) for mode in MODES})
            recorder = own.recorder()
            for those in _batches(rates, AT_ONCE[size]):
                cells |= _measure(own, recorder, camera, those)
        rows = [[f"{size} {codec}", mode, *(cells[mode, rate] for rate in rates)] for mode in MODES]
        print(*rows, sep="\n", file=sys.stderr, flush=True)  # show progress: the run takes a long time
        report.rows += rows
    return report


def _clip(codec: Codec, size: str, mode: str) -> ClipSpec:
    """Return a short clip (encoding 4K is slow): a busy street, or for `motion` an empty street at night."""
    width, height, kbit_s = SIZES[size]
    still: dict[str, Any] = {"noise": 4.0, "crossings": ()} if mode == "motion" else {}
    return ClipSpec(codec=codec, width=width, height=height, kbit_s=kbit_s, seconds=4, **still)


def _measure(own: Bench, recorder: Recorder, camera: GstCamera, rates: Sequence[float]) -> dict[tuple[str, float], str]:
    """Return the table cells for these rates in both modes."""
    entries: dict[tuple[str, float], dict[str, Any]] = {
        (mode, rate): {
            "id": f"{mode}-{rate:g}".replace(".", "-"),
            "url": camera.url(f"/{mode}"),
            "fps": rate,
            **(MOTION if mode == "motion" else {}),
        }
        for mode, rate in product(MODES, rates)
    }
    with own.hub(list(entries.values()), recorder) as hub:
        for entry in entries.values():
            hub.wait_for_results(entry["id"], 1, 120)
        wait(SETTLE_S)
        begin = {kind: hub.camera(entry["id"]) for kind, entry in entries.items()}
        began, before = time.monotonic(), {kind: _cpu_s(now) for kind, now in begin.items()}
        wait(SECONDS)
        percents = {
            kind: 100 * (_cpu_s(now) - before[kind]) / (time.monotonic() - began) for kind, now in begin.items()
        }
        late = {
            kind: hub.camera(entry["id"]).metrics.get(LATE, 0) > begin[kind].metrics.get(LATE, 0)
            for kind, entry in entries.items()
        }
    return {kind: f"{value:.1f} % ({100 / value:.0f}){'*' if late[kind] else ''}" for kind, value in percents.items()}


def _batches(rates: Sequence[float], most: int) -> Iterator[Sequence[float]]:
    return (rates[begin : begin + most] for begin in range(0, len(rates), most))


def _cpu_s(camera: CameraNow) -> float:
    return cpu_s(psutil.Process(camera.pid))
