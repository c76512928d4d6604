"""The servers and processes of one benchmark, on loopback in a folder of their own, and what they cost."""

from __future__ import annotations

import contextlib
import json
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
    """Starts what a benchmark needs and ends it with it."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._count = 0

    def _own_folder(self) -> Path:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        return folder

    def cameras(self, mounts: dict[str, ClipSpec]) -> GstCamera:
        """GStreamer cameras."""
        camera = GstCamera(folder=self._own_folder(), mounts=mounts)
        camera.start()
        self._stack.callback(camera.kill)
        return camera

    def http_camera(self, spec: ClipSpec) -> HttpCamera:
        """One that sends MJPEG over HTTP, in a thread of ours."""
        camera = HttpCamera(spec=spec)
        self._stack.callback(camera.close)
        return camera

    def recorder(self) -> Recorder:
        """The service that both sides stream to."""
        recorder = Recorder(folder=self._own_folder())
        recorder.start()
        self._stack.callback(recorder.kill)
        return recorder

    @contextlib.contextmanager
    def hub(self, cameras: Sequence[dict[str, Any]], service: Recorder | None) -> Iterator[Hub]:
        """A hub, until the block ends."""
        folder = self._own_folder()
        write(folder, cameras, service)
        hub = Hub(folder=folder)
        try:
            hub.start()
            yield hub
        finally:
            end(hub)

    @contextlib.contextmanager
    def contender(self, kind: str, service: Recorder | None, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
        """One of the others, until the block ends."""
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
    """A bench, cleared away afterwards."""
    with tempfile.TemporaryDirectory(prefix="nvision-bench-") as name, contextlib.ExitStack() as stack:
        yield Bench(Path(name), stack)


def cpu_s(process: psutil.Process) -> float:
    """User and system seconds of a process so far, those of its threads included."""
    times = process.cpu_times()
    return float(times.user + times.system)


def cpu_percent(pid: int, seconds: float) -> float:
    """Percent of one core that a process and its children take during `seconds` from now."""
    process = psutil.Process(pid)
    tree = [process, *process.children(recursive=True)]
    began, before = time.monotonic(), sum(map(cpu_s, tree))
    wait(seconds)
    return 100 * (sum(map(cpu_s, tree)) - before) / (time.monotonic() - began)


def wait(seconds: float) -> None:
    """Let what is being measured run."""
    threading.Event().wait(seconds)
