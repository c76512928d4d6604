"""Process of the demo cameras: renders missing clips and serves them over RTSP on loopback."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub.errors import UnavailableError
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.process_stats import ProcessStats
from nvision_hub.runtime.status import DemoInfo, Status
from nvision_hub.runtime.worker import run_worker
from workers.demo import clip

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
    from workers.demo.clip import Clip

SCENES: Final = ("street", "crossing", "parking")

_log = logging.getLogger("nvision_hub.demo")


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    host: str = "127.0.0.1"
    port: int  # if 0, the system chooses the port; status reports contain the chosen port
    scenes: tuple[str, ...] = SCENES
    cache_dir: Path  # a few megabytes of clips; created if missing


def url(port: int, scene: str) -> str:
    """Return the URL of the demo camera that plays the scene's clip in an endless loop."""
    return f"rtsp://127.0.0.1:{port}/{scene}.mp4?play_count=0"


def run(settings: DemoSettings, pipe: SupervisorPipe) -> None:
    """Serve the demo cameras until the supervisor requests a stop.

    The worker listens and is ready immediately. A request for a clip that is still being rendered waits for it. Raises
    `UnavailableError` if the port cannot be used, aio-rtsp-toolkit or OpenCV is missing, or the cache is not writable.
    """
    asyncio.run(_serve(settings, pipe))


async def _serve(settings: DemoSettings, pipe: SupervisorPipe) -> None:
    try:
        from workers.demo.server import ClipServer  # noqa: PLC0415 - needs the extra `demo`
    except ImportError as error:
        raise UnavailableError(
            f"The demo cameras need {error.name or 'aio-rtsp-toolkit'}; install it: pip install 'nvision-hub[demo]'"
        ) from error
    clips = {scene: asyncio.get_running_loop().create_future() for scene in settings.scenes}
    directory = clip.path(settings.cache_dir, settings.scenes[0]).parent
    server = ClipServer(directory, settings.host, settings.port, clips)
    try:
        await server.start()
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror or error})"
        raise UnavailableError(
            f"The demo cameras' port {settings.port} on {settings.host} {reason}; configure another "
            "port, or stop the program that uses this port."
        ) from error
    _log.info(
        "demo cameras listening on rtsp://%s:%d", settings.host, server.bound_port, extra={"event": "demo_listening"}
    )
    meter = Meter()
    stats = ProcessStats(meter)

    def snapshot() -> Status:
        stats.update()
        complete = tuple(sorted(scene for scene, loaded in clips.items() if loaded.done()))
        return Status(
            state="serving" if len(complete) == len(clips) else "rendering",
            ready=True,
            metrics=meter.snapshot(),
            info=DemoInfo(port=server.bound_port, scenes=complete, clients=len(server.sessions)),
        )

    try:
        await run_worker(pipe, snapshot, tasks={"clips": _load(settings.cache_dir, clips)})
    finally:
        await server.close()


async def _load(cache_dir: Path, clips: Mapping[str, asyncio.Future[Clip]]) -> None:
    """Load the clip of each scene into its future. First render the missing clips in parallel, one per core."""
    stop = threading.Event()

    def load(scene: str) -> Clip:
        return clip.load(clip.render(cache_dir, scene, stop))

    async def publish(scene: str) -> None:
        clips[scene].set_result(await asyncio.get_running_loop().run_in_executor(pool, load, scene))
        _log.debug("demo camera %s is ready", scene)

    pool = ThreadPoolExecutor(os.cpu_count(), "demo-pool")
    try:
        await asyncio.gather(*map(publish, clips))
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
