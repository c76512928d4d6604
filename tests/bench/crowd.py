"""A hundred cameras started at once: when the last of them has sent its first picture, and who dialled twice."""

from __future__ import annotations

import time
from typing import Final

from tests.bench.bench import bench, wait
from tests.bench.report import Goal, Report, median
from tests.support.clips import ClipSpec

CAMERAS: Final = 100
LAST_MOST_S: Final = 15.0
GIVEN_UP_S: Final = 120.0
CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=500, fps=10, gop_s=1.0, seconds=4)


def run(*, quick: bool) -> Report:
    """Small cameras, as sub-streams are, at one picture in two seconds: starting them is the work."""
    count = 30 if quick else CAMERAS
    ids = [f"cam-{number:03}" for number in range(count)]
    with bench() as own:
        camera = own.cameras({"/cam": CLIP})
        recorder = own.recorder()
        began = time.monotonic()
        with own.hub([{"id": name, "url": camera.url("/cam"), "fps": 0.5} for name in ids], recorder) as hub:
            firsts: dict[str, float] = {}
            while len(firsts) < count and time.monotonic() - began < GIVEN_UP_S:
                wait(0.5)
                for record in recorder.received():
                    firsts.setdefault(record.source_id, record.at - began)
            redialled = sum(hub.camera(name).total("camera_reconnects_total") for name in ids)
            restarts = sum(hub.camera(name).restarts for name in ids)
    times = [firsts.get(name, GIVEN_UP_S) for name in ids]
    report = Report(name="crowd", columns=[f"{count} cameras at once, first picture after the start", ""])
    report.rows += [
        ["first camera's", f"{min(times):.1f} s"],
        ["half of them", f"{median(times):.1f} s"],
        ["last camera's", f"{max(times):.1f} s"],
    ]
    report.goals += [
        Goal(what="last camera's first picture, s", value=max(times), at_most=LAST_MOST_S),
        Goal(what="cameras dialled again, workers started again", value=redialled + restarts, at_most=0),
    ]
    return report
