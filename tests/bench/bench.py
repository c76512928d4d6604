"""Start the servers and processes of a benchmark on loopback, and measure their CPU time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from tests.support.http_camera import HttpCamera
from tests.support.hub import Hub, end, write
from tests.support.recorder import KEY, Recorder
from tests.support.rtsp import GstCamera

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.clips import ClipSpec

_ROOT: Final = Path(__file__).parents[2]


class Bench:
    """The hubs, contenders and servers of a benchmark. All of them stop when the benchmark ends."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._count = 0

    def own_folder(self) -> Path:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        return folder

    def cameras(self, mounts: dict[str, ClipSpec]) -> GstCamera:
        """Start GStreamer cameras."""
        camera = GstCamera(folder=self.own_folder(), mounts=mounts)
        camera.start()
        self._stack.callback(camera.kill)
        return camera

    def http_camera(self, spec: ClipSpec) -> HttpCamera:
        """Start a camera that sends MJPEG over HTTP, in a thread of this process."""
        camera = HttpCamera(spec=spec)
        self._stack.callback(camera.close)
        return camera

    def recorder(self) -> Recorder:
        """Start the recording service that hubs and contenders stream to."""
        recorder = Recorder(folder=self.own_folder())
        recorder.start()
        self._stack.callback(recorder.kill)
        return recorder

    @contextlib.contextmanager
    def hub(self, cameras: Sequence[dict[str, Any]], service: Recorder | None) -> Iterator[Hub]:
        """Run a hub until the block ends."""
        folder = self.own_folder()
        write(folder, cameras, service)
        hub = Hub(folder=folder)
        try:
            hub.start()
            yield hub
        finally:
            end(hub)

    @contextlib.contextmanager
    def contender(self, kind: str, service: Recorder | None, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Run a contender until the block ends."""
        if service is not None:
            settings |= {"service": f"{service.url}/v1/object-detection", "key": KEY}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.contender", kind, json.dumps(settings)],
            cwd=_ROOT,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Yield a `Bench`, and stop all its processes and servers at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="nvision-bench-") as name, contextlib.ExitStack() as stack:
        yield Bench(Path(name), stack)


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU time of a process so far, user and system, in seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def cpu_percent(pid: int, seconds: float) -> float:
    """Return the CPU use of a process and its children over the next `seconds`, in percent of one core."""
    process = psutil.Process(pid)
    tree = [process, *process.children(recursive=True)]
    began, before = time.monotonic(), sum(map(cpu_s, tree))
    wait(seconds)
    return 100 * (sum(map(cpu_s, tree)) - before) / (time.monotonic() - began)


@contextlib.contextmanager
def two_cores() -> Iterator[None]:
    """Limit this process and the processes started inside the block to two cores."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(mine)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def wait(seconds: float) -> None:
    """Let the measured processes run for this long."""
    threading.Event().wait(seconds)
