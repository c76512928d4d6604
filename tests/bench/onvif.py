"""Measure what ONVIF saves: the CPU time of a sub-stream, and the time from a motion event to the first frame.

Two cameras of one hub send the same rate and size at the same time: one reads the sub-stream that the hub chose over
ONVIF, and the other one scales the main stream down. Other work on the machine affects both.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nvision_hub.cli.camera_probe import measure
from nvision_hub.config.models import Camera
from nvision_hub.media.sources import KnownCertificates
from tests.bench.bench import bench, wait
from tests.bench.report import Goal, Report, median, spread
from tests.support import clips
from tests.support.onvif_device import OnvifDevice, Profile

if TYPE_CHECKING:
    from nvision_hub.cli.camera_probe import StreamReport
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder

CLIPS: Final = {
    "/main": clips.H264_1080P,
    "/sub": clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=500),
}
FPS: Final = 5.0
WIDTH: Final = 640
SETTLE_S: Final = 5.0  # until the workers have learned the GOP
MAX_DECODING: Final = 0.2  # share of the main stream's CPU time
MAX_WORKER: Final = 0.4  # likewise; a worker also reads packets, encodes and sends frames, and reports its status
MAX_START_S: Final = 0.5
MOTION: Final = {"when": "motion", "motion": {"source": "onvif", "cooldown": 1}}


def run(*, quick: bool) -> Report:
    """Measure the pair several times in one run, and then several events."""
    rounds, seconds, events = (1, 5.0, 2) if quick else (5, 8.0, 10)
    report = Report(name="onvif", columns=["one camera, 5/s, 640 px", "median", "range of runs"])
    with bench() as own, contextlib.ExitStack() as stack:
        camera, recorder = own.cameras(CLIPS), own.recorder()
        device = OnvifDevice(
            profiles=tuple(
                Profile(uri=camera.url(mount), token=mount[1:], name=mount[1:], width=spec.width, height=spec.height)
                for mount, spec in CLIPS.items()
            )
        )
        stack.callback(device.close)
        common = {"fps": FPS, "max_width": WIDTH}
        cameras = [
            {"id": "sub", "url": device.url, **common},
            {"id": "main", "url": camera.url("/main"), **common},
            {"id": "motion", "url": device.url, **common, **MOTION},
        ]
        decoding = [_decoding(device, camera.url("/main"), seconds) for _ in range(rounds)]
        with own.hub(cameras[:2], recorder) as hub:
            for name in ("sub", "main"):
                hub.wait_for_results(name, 2)
            wait(SETTLE_S)
            pairs = [_pair(hub, seconds) for _ in range(rounds)]
        with own.hub(cameras[2:], recorder) as hub:
            starts = [_start(hub, device, recorder) for _ in range(events)]
    for what, measured, at_most in (("decoding", decoding, MAX_DECODING), ("worker", pairs, MAX_WORKER)):
        shares = [sub / main for sub, main in measured]
        for stream, values in zip(("sub-stream", "main stream"), zip(*measured, strict=True), strict=True):
            report.rows.append([f"CPU of {what}, {stream}, % of a core", f"{median(values):.2f}", spread(values)])
        report.goals.append(Goal.of(f"CPU of {what}, sub-stream / main stream", shares, at_most=at_most))
    report.rows.append(["from the motion event to the first frame, s", f"{median(starts):.3f}", spread(starts)])
    report.goals.append(Goal(what="longest time from event to frame, s", value=max(starts), at_most=MAX_START_S))
    return report


def _decoding(device: OnvifDevice, main: str, seconds: float) -> tuple[float, float]:
    """Return the CPU use of decoding the sub-stream and the main stream at once, as a percentage of one core."""
    cameras = [Camera.model_validate({"id": "probe", "url": url, "max_width": WIDTH}) for url in (device.url, main)]
    with ThreadPoolExecutor(2) as pool:
        sub, full = pool.map(lambda camera: measure(camera, seconds, KnownCertificates()), cameras)
    return _decode_percent(sub), _decode_percent(full)


def _decode_percent(found: StreamReport) -> float:
    assert found.decode_ms is not None
    assert found.decoded_per_s is not None
    return found.decode_ms * found.decoded_per_s[f"{FPS:g}"] / 10


def _pair(hub: Hub, seconds: float) -> tuple[float, float]:
    """Return the CPU use of the workers of the sub-stream and the main stream, as a percentage of one core."""
    pids = [hub.camera(name).pid for name in ("sub", "main")]
    before = [_cpu_s(pid) for pid in pids]
    wait(seconds)
    sub, main = (100 * (_cpu_s(pid) - spent) / seconds for pid, spent in zip(pids, before, strict=True))
    return sub, main


def _cpu_s(pid: int | None) -> float:
    """Return the CPU time of the live threads of a process in seconds, to the nanosecond (schedstat, first field)."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text(encoding="ascii").split()[0]) for file in files) / 1e9


def _start(hub: Hub, device: OnvifDevice, recorder: Recorder) -> float:
    """Wait until the camera is idle, and return the seconds from its next event to the first frame at the service."""
    hub.wait_until(lambda: hub.camera("motion").info.get("moving") is False)
    sent = len(recorder.received("motion"))
    at = device.set_moving(is_moving=True)
    first = recorder.wait_for(sent + 1, "motion")[sent]
    device.set_moving(is_moving=False)
    return first.at - at
