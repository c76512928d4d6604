"""What a camera costs, by codec, size, rate and mode: `python -m tests.bench sizing [--quick] [--json]`.

Absolute figures of one machine, for planning: percent of a core of a camera's process, and how many of them fill one.
`nvision_hub/costs.py` holds the few numbers that these come down to.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from tests.bench.bench import bench, cpu_percent, wait
from tests.bench.report import Report
from tests.support.clips import ClipSpec, Codec

if TYPE_CHECKING:
    from tests.bench.bench import Bench
    from tests.support.recorder import Recorder

SIZES: Final = {"720p": (1280, 720, 2000), "1080p": (1920, 1080, 4000), "4K": (3840, 2160, 12000)}
CODECS: Final[tuple[Codec, ...]] = ("h264", "h265", "mjpeg")
RATES: Final = (0.5, 1.0, 5.0, 10.0)
QUICK_RATES: Final = (0.5, 5.0)
MODES: Final = ("always", "motion")
SETTLE_S: Final = {"always": 5.0, "motion": 9.0}
SECONDS: Final = 6.0
# The number in the picture's corner changes in every picture, which is no movement.
MOTION: Final = {
    "when": "motion",
    "motion": {"calm_after": 2, "ignore": [[[0, 0], [0.51, 0], [0.51, 0.04], [0, 0.04]]]},
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench sizing", description="What cameras cost here.")
    parser.add_argument("--quick", action="store_true", help="two rates, and no 4K")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of a table")
    arguments = parser.parse_args(argv)
    report = run(quick=arguments.quick)
    print(json.dumps(report.as_json(), indent=2) if arguments.json else report.as_text())
    return 0


def run(*, quick: bool) -> Report:
    """One camera at a time."""
    sizes = list(SIZES)[:2] if quick else list(SIZES)
    rates = QUICK_RATES if quick else RATES
    report = Report(
        name="sizing: % of a core, and cameras a core",
        columns=["camera, 25 pictures a second", "when", *(f"{rate:g}/s" for rate in rates)],
    )
    for codec, size in product(CODECS, sizes):
        with bench() as own:
            camera = own.cameras({f"/{mode}": _clip(codec, size, mode) for mode in MODES})
            recorder = own.recorder()
            for mode in MODES:
                percents = [_percent(own, recorder, camera.url(f"/{mode}"), mode, rate) for rate in rates]
                report.rows.append([f"{size} {codec}", mode, *map(_shown, percents)])
    return report


def _shown(percent: float) -> str:
    return f"{percent:.1f} % ({100 / percent:.0f})"


def _clip(codec: Codec, size: str, mode: str) -> ClipSpec:
    """A busy street, or one at night where nobody comes. Short: 4K takes its time to encode."""
    width, height, kbit_s = SIZES[size]
    still: dict[str, Any] = {"noise": 4.0, "crossings": ()} if mode == "motion" else {}
    return ClipSpec(codec=codec, width=width, height=height, kbit_s=kbit_s, seconds=4, **still)


def _percent(own: Bench, recorder: Recorder, address: str, mode: str, rate: float) -> float:
    cameras = [{"id": "sized", "url": address, "fps": rate, **(MOTION if mode == "motion" else {})}]
    with own.hub(cameras, recorder) as hub:
        hub.wait_for_results("sized", 1, 60)
        wait(SETTLE_S[mode])
        pid = hub.camera("sized").pid
        assert pid is not None
        return cpu_percent(pid, max(SECONDS, 4 / rate))
