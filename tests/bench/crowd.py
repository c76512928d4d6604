"""Start a hundred cameras at once. Measure the time until each has sent its first frame, and count reconnects."""

from __future__ import annotations

import time
from typing import Final

from tests.bench.bench import bench, wait
from tests.bench.report import Goal, Report, median
from tests.support.clips import ClipSpec

CAMERAS: Final = 100
MAX_LAST_S: Final = 15.0
GIVE_UP_TIMEOUT_S: Final = 120.0
CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=500, fps=10, gop_s=1.0, seconds=4)


def run(*, quick: bool) -> Report:
    """Use small sub-streams and one frame every two seconds, so that the start causes most of the load."""
    count = 30 if quick else CAMERAS
    ids = [f"cam-{number:03}" for number in range(count)]
    with bench() as own:
        camera = own.cameras({"/cam": CLIP})
        recorder = own.recorder()
        began = time.monotonic()
        with own.hub([{"id": name, "url": camera.url("/cam"), "fps": 0.5} for name in ids], recorder) as hub:
            firsts: dict[str, float] = {}
            while len(firsts) < count and time.monotonic() - began < GIVE_UP_TIMEOUT_S:
                wait(0.5)
                for record in recorder.received():
                    firsts.setdefault(record.source_id, record.at - began)
            redialled = sum(hub.camera(name).total("camera_reconnects_total") for name in ids)
            restarts = sum(hub.camera(name).restarts for name in ids)
    times = [firsts.get(name, GIVE_UP_TIMEOUT_S) for name in ids]
    report = Report(name="crowd", columns=[f"{count} cameras at once, first frame after the start", ""])
    report.rows += [
        ["first camera's", f"{min(times):.1f} s"],
        ["half of them", f"{median(times):.1f} s"],
        ["last camera's", f"{max(times):.1f} s"],
    ]
    report.goals += [
        Goal(what="last camera's first frame, s", value=max(times), at_most=MAX_LAST_S),
        Goal(what="camera reconnects, worker restarts", value=redialled + restarts, at_most=0),
    ]
    return report
