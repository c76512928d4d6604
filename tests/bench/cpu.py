"""Compare the CPU use of a camera's worker with that of common alternatives, at the same rate, in alternating runs."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.bench.bench import Bench, bench, cpu_percent, wait
from tests.bench.report import Goal, Report, median, spread
from tests.support import clips

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.recorder import Recorder

SETTLE_S: Final = 3.0  # until the worker has learned the GOP and started the decoder

HTTP: Final = "http"  # a separate server; all other mounts belong to one RTSP server
CLIPS: Final = {
    HTTP: clips.MJPEG_720P,
    "/h264": clips.H264_1080P,
    "/still": clips.STILL_1080P,
    "/h265": clips.H265_1080P,
    "/small": clips.H264_720P,
    "/mjpeg": clips.MJPEG_720P,
}
SHOWN: Final = {
    "loop": "OpenCV, read all",
    "grab": "OpenCV, grab all",
    "ffmpeg": "FFmpeg process, raw frames",
    "pyav": "PyAV through BGR",
    "decode": "PyAV, decode only",
    "demux": "PyAV, read only",
}
SENDS_NOTHING: Final = frozenset({"decode", "demux"})


@dataclass(frozen=True, kw_only=True)
class Case:
    """One camera and the highest ratio of its worker's CPU use to that of each contender (`against`; None: any)."""

    what: str
    mount: str  # a key of `CLIPS`
    fps: float
    width: int | None = None
    against: Mapping[str, float | None]
    settings: dict[str, Any] = field(default_factory=dict)  # additional settings of the hub's camera
    settle_s: float = SETTLE_S


CASES: Final = (
    Case(
        what="1080p25 H.264, 5/s, full size",
        mount="/h264",
        fps=5,
        against={"loop": 0.75, "grab": None, "ffmpeg": None, "pyav": None, "decode": 1.25},
    ),
    Case(what="1080p25 H.264, 5/s, 640 px", mount="/h264", fps=5, width=640, against={"loop": 0.70}),
    Case(what="1080p25 H.264, 1/s (GOP 2 s)", mount="/h264", fps=1, against={"loop": 0.48}),
    Case(what="1080p25 H.264, 0.5/s (GOP 2 s)", mount="/h264", fps=0.5, against={"loop": 0.15}),
    Case(
        what="1080p25 H.264, `when: motion`, idle scene",
        mount="/still",
        fps=5,
        against={"loop": 0.13},
        # The frame counter in the corner changes in every frame and must not count as motion.
        settings={
            "when": "motion",
            "motion": {"cooldown": 2, "ignore": [[[0, 0], [0.51, 0], [0.51, 0.04], [0, 0.04]]]},
        },
        settle_s=9.0,
    ),
    Case(what="720p25 MJPEG over HTTP, 5/s, unchanged", mount=HTTP, fps=5, against={"loop": 0.15, "demux": None}),
    Case(what="720p25 MJPEG over RTSP, 5/s, unchanged", mount="/mjpeg", fps=5, against={"loop": 0.15, "demux": None}),
    Case(what="1080p25 H.265, 5/s, full size", mount="/h265", fps=5, against={"loop": None, "decode": None}),
    Case(what="720p25 H.264, 5/s, full size", mount="/small", fps=5, against={"loop": None, "decode": None}),
)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One case with its camera and service."""

    own: Bench
    recorder: Recorder
    case: Case
    address: str
    seconds: float

    def ours(self) -> float:
        """Return the worker's CPU use as a percentage of one core."""
        case = self.case
        cameras = [{"id": "ours", "url": self.address, "fps": case.fps, "max_width": case.width, **case.settings}]
        with self.own.hub(cameras, self.recorder) as hub:
            hub.wait_for_results("ours", 2)
            wait(case.settle_s)
            pid = hub.camera("ours").pid
            assert pid is not None
            return cpu_percent(pid, self.seconds)

    def other(self, kind: str) -> float:
        """Return a contender's CPU use as a percentage of one core."""
        if kind in SENDS_NOTHING:
            with self.own.contender(kind, None, camera=self.address) as process:
                wait(2 * SETTLE_S)
                return cpu_percent(process.pid, self.seconds)
        case, spec = self.case, CLIPS[self.case.mount]
        seen = len(self.recorder.received(kind))
        with self.own.contender(
            kind,
            self.recorder,
            camera=self.address,
            source_id=kind,
            fps=case.fps,
            width=case.width,
            size=[spec.width, spec.height],
        ) as process:
            self.recorder.wait_for(seen + 2, kind, 60)
            wait(SETTLE_S)
            return cpu_percent(process.pid, self.seconds)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The runs of a case, in order."""

    case: Case
    ours: list[float] = field(default_factory=list)
    theirs: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def write(self, report: Report) -> None:
        """Add rows and goals to the report."""
        what = self.case.what
        for kind, at_most in self.case.against.items():
            if kind not in self.theirs:
                report.rows.append([what, "", SHOWN[kind], "not measured: ffmpeg is not installed", "", ""])
                continue
            theirs = self.theirs[kind]
            ratios = [a / b for a, b in zip(self.ours, theirs, strict=True)]
            figures = [f"{median(self.ours):.1f}", SHOWN[kind], f"{median(theirs):.1f}", f"{median(ratios):.2f}"]
            report.rows.append([what, *figures, spread(ratios)])
            if at_most is not None:
                report.goals.append(Goal.of(f"{what}: CPU / {SHOWN[kind]}", ratios, at_most=at_most))


def run(*, quick: bool) -> Report:
    """Alternate short runs, A B C A B C, so that other work on the machine affects all contenders."""
    rounds, seconds = (1, 5.0) if quick else (5, 8.0)
    report = Report(
        name="cpu", columns=["one camera", "hub, % of a core", "against", "its % of a core", "ratio", "range of runs"]
    )
    with bench() as own:
        camera = own.cameras({mount: clip for mount, clip in CLIPS.items() if mount != HTTP})
        http = own.http_camera(CLIPS[HTTP])
        recorder = own.recorder()
        for case in CASES:
            address = http.url() if case.mount == HTTP else camera.url(case.mount)
            turn = Turn(own=own, recorder=recorder, case=case, address=address, seconds=seconds)
            measured = Measured(case=case)
            for _ in range(rounds):
                measured.ours.append(turn.ours())
                for kind in case.against:
                    if kind != "ffmpeg" or shutil.which(kind):
                        measured.theirs[kind].append(turn.other(kind))
            measured.write(report)
    return report
