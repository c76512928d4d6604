"""Measure drops, memory, CPU use and start time of 16 demo cameras at 1 frame per second with the local service."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final

import psutil

from tests.bench.bench import bench, cpu_s, wait
from tests.bench.report import Goal, Report, median
from workers.demo import worker as demo

CAMERAS: Final = 16
MAX_MEMORY_MB: Final = 14.0
MAX_START_S: Final = 15.0


def run(*, quick: bool) -> Report:
    """Run a complete hub with its broker, service, demo cameras and workers."""
    seconds = 12.0 if quick else 30.0
    ids = [f"demo-{number}" for number in range(CAMERAS)]
    cameras = [
        {"id": name, "url": f"demo://{demo.SCENES[number % len(demo.SCENES)]}", "fps": 1}
        for number, name in enumerate(ids)
    ]
    with bench() as own:
        began = time.time()
        with own.hub(cameras, None) as hub:
            for name in ids:
                hub.wait_for_results(name, 1, 60)
            tree = [psutil.Process(hub.process.pid), *psutil.Process(hub.process.pid).children(recursive=True)]
            before = sum(cpu_s(process) for process in tree)
            wait(seconds)
            cpu = 100 * (sum(cpu_s(process) for process in tree) - before) / seconds
            now = {name: hub.camera(name) for name in ids}
            firsts = [datetime.fromisoformat(hub.events(name)[0]["hub"]["sent_at"]).timestamp() - began for name in ids]
    drops = sum(camera.total("frames_dropped_total") for camera in now.values())
    memory = [camera.metrics["worker_memory_bytes"] / 1e6 for camera in now.values()]
    workers = sum(camera.metrics["worker_cpu_seconds_total"] for camera in now.values())
    report = Report(name="fleet", columns=[f"{CAMERAS} demo cameras (720p) at 1/s, {seconds:.0f} s", ""])
    report.rows += [
        ["frames sent", f"{sum(camera.total('frames_sent_total') for camera in now.values()):.0f}"],
        ["frames dropped", f"{drops:.0f}"],
        ["private memory of a worker, median / max", f"{median(memory):.1f} / {max(memory):.1f} MB"],
        ["CPU of everything (broker, local service, demo cameras, workers)", f"{cpu:.0f} % of a core"],
        ["CPU of the workers since their start", f"{workers:.1f} s"],
        ["first / last camera's first frame after the start", f"{min(firsts):.1f} / {max(firsts):.1f} s"],
    ]
    report.goals += [
        Goal(what="frames dropped", value=drops, at_most=0),
        Goal(what="private memory of a worker, MB", value=max(memory), at_most=MAX_MEMORY_MB),
        Goal(what="last camera's first frame, s", value=max(firsts), at_most=MAX_START_S),
        Goal(what="CPU of everything, % of two cores", value=cpu / 2, at_most=100),
    ]
    return report
