"""CPU of one camera: its worker against the OpenCV loop at the same rate, and against decoding alone, turn by turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.bench.bench import Bench, bench, cpu_percent, wait
from tests.bench.report import Goal, Report, median
from tests.support import clips

if TYPE_CHECKING:
    from tests.support.recorder import Recorder

SETTLE_S: Final = 3.0  # until a GOP is known and a decoder's threads are up


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to watch one camera. `at_most` is of the loop's CPU."""

    what: str
    mount: str
    fps: float
    width: int | None
    at_most: float
    decode_at_most: float | None = None  # of decoding alone, where it is compared
    settings: dict[str, Any] = field(default_factory=dict)  # further ones of the hub's camera
    settle_s: float = SETTLE_S


CASES: Final = (
    Case(what="1080p25 H.264, 5/s, full size", mount="/h264", fps=5, width=None, at_most=0.75, decode_at_most=1.25),
    Case(what="1080p25 H.264, 5/s, 640 px", mount="/h264", fps=5, width=640, at_most=0.70),
    Case(what="1080p25 H.264, 1/s (GOP 2 s)", mount="/h264", fps=1, width=None, at_most=0.48),
    Case(what="1080p25 H.264, 0.5/s (GOP 2 s)", mount="/h264", fps=0.5, width=None, at_most=0.15),
    Case(
        what="1080p25 H.264, 5/s when something moves, and nothing does",
        mount="/still",
        fps=5,
        width=None,
        at_most=0.13,
        # The clip's number changes in every picture, which is no movement.
        settings={
            "when": "motion",
            "motion": {"calm_after": 2, "ignore": [[[0, 0], [0.51, 0], [0.51, 0.04], [0, 0.04]]]},
        },
        settle_s=9.0,
    ),
    Case(what="720p25 MJPEG, 5/s, as it is", mount="/mjpeg", fps=5, width=None, at_most=0.15),
)


def run(*, quick: bool) -> Report:
    """Pairs of short runs, A B A B, so that what else the machine does falls on both."""
    pairs, seconds = (1, 6.0) if quick else (5, 8.0)
    report = Report(
        name="cpu",
        columns=[
            "one camera",
            "hub, % of a core",
            "OpenCV loop, %",
            "PyAV decode only, %",
            "hub / loop",
            "hub / decode",
        ],
    )
    with bench() as own:
        camera = own.cameras({"/h264": clips.H264_1080P, "/still": clips.STILL_1080P, "/mjpeg": clips.MJPEG_720P})
        recorder = own.recorder()
        for case in CASES:
            address = camera.url(case.mount)
            ours, loops, decodes = [], [], []
            for _ in range(pairs):
                ours.append(_ours(own, case, address, recorder, seconds))
                loops.append(_loop(own, case, address, recorder, seconds))
                if case.decode_at_most is not None:
                    decodes.append(_decode(own, address, seconds))
            ratio = median([a / b for a, b in zip(ours, loops, strict=True)])
            above = median([a / b for a, b in zip(ours, decodes, strict=True)]) if decodes else None
            report.rows.append(
                [
                    case.what,
                    f"{median(ours):.1f}",
                    f"{median(loops):.1f}",
                    f"{median(decodes):.1f}" if decodes else "",
                    f"{ratio:.2f}",
                    f"{above:.2f}" if above is not None else "",
                ]
            )
            report.goals.append(Goal(what=f"{case.what}: CPU / loop", value=ratio, at_most=case.at_most))
            if above is not None and case.decode_at_most is not None:
                report.goals.append(
                    Goal(what=f"{case.what}: CPU / decode only", value=above, at_most=case.decode_at_most)
                )
    return report


def _ours(own: Bench, case: Case, address: str, recorder: Recorder, seconds: float) -> float:
    cameras = [{"id": "ours", "url": address, "fps": case.fps, "max_width": case.width, **case.settings}]
    with own.hub(cameras, recorder) as hub:
        hub.wait_for_results("ours", 2)
        wait(case.settle_s)
        pid = hub.camera("ours").pid
        assert pid is not None
        return cpu_percent(pid, seconds)


def _loop(own: Bench, case: Case, address: str, recorder: Recorder, seconds: float) -> float:
    seen = len(recorder.received("loop"))
    with own.contender("loop", recorder, camera=address, source_id="loop", fps=case.fps, width=case.width) as process:
        recorder.wait_for(seen + 2, "loop")
        wait(SETTLE_S)
        return cpu_percent(process.pid, seconds)


def _decode(own: Bench, address: str, seconds: float) -> float:
    with own.contender("decode", None, camera=address) as process:
        wait(2 * SETTLE_S)
        return cpu_percent(process.pid, seconds)
