"""Measure the private memory of workers. Several workers run at once, because pages that they share do not count."""

from __future__ import annotations

from typing import Final

from tests.bench.bench import bench, wait
from tests.bench.report import Goal, Report
from tests.support import clips

OF_A_KIND: Final = 3
SEEN_AT: Final = (12.0, 11.0, 11.0)  # seconds before each sample; a worker measures its memory every ten seconds
MAX_MB: Final = {"720p": 14, "1080p": 20}
CLIPS: Final = {"720p": clips.H264_720P, "1080p": clips.H264_1080P}


def run(*, quick: bool) -> Report:
    """Measure H.264 cameras at 25 frames per second. Workers send 5 frames per second at full size."""
    report = Report(name="memory", columns=["worker of one camera", "private memory, median", "min", "max"])
    with bench() as own:
        camera = own.cameras({f"/{size}": spec for size, spec in CLIPS.items()})
        recorder = own.recorder()
        names = {size: [f"{size}-{number}" for number in range(OF_A_KIND)] for size in CLIPS}
        cameras = [
            {"id": name, "url": camera.url(f"/{size}"), "fps": 5} for size, each in names.items() for name in each
        ]
        seen: dict[str, list[float]] = {size: [] for size in CLIPS}
        with own.hub(cameras, recorder) as hub:
            for each in names.values():
                for name in each:
                    hub.wait_for_results(name, 2)
            for seconds in SEEN_AT[: 1 if quick else None]:
                wait(seconds)
                for size, each in names.items():
                    seen[size] += [hub.camera(name).metrics["worker_memory_bytes"] / 1e6 for name in each]
    for size, values in seen.items():
        goal = Goal.of(f"{size}: private memory of a worker, MB", values, at_most=MAX_MB[size])
        report.rows.append([f"{size} H.264", *(f"{value:.1f} MB" for value in (goal.value, min(values), max(values)))])
        report.goals.append(goal)
    return report
