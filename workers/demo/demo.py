"""The demo cameras' process: draws the clips that are missing and serves them over RTSP on loopback.

Owns the process's life and its status; knows nothing of how a picture is drawn or an RTSP request answered.
"""

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
from nvision_hub.link import status_basis
from nvision_hub.status import Meter, Status
from nvision_hub.usage import Usage
from workers.demo import clip

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.link import Link
    from workers.demo.server import ClipServer

SCENES: Final = ("street", "crossing", "parking")

_log = logging.getLogger("nvision_hub.demo")


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Where the demo cameras are, and which."""

    host: str = "127.0.0.1"
    port: int  # 0: a free one; the status row tells which
    scenes: tuple[str, ...] = SCENES
    cache_dir: Path  # for the clips, a few megabytes; made where it is missing


def url(port: int, scene: str) -> str:
    """The address of a demo camera: its clip, looped for ever."""
    return f"rtsp://127.0.0.1:{port}/{scene}.mp4?play_count=0"


def run(settings: DemoSettings, link: Link) -> int | None:
    """Serve the demo cameras until asked to end.

    Listens at once, and is ready then: who asks for a camera whose clip is still being drawn is answered when it is
    done. Raises `UnavailableError` where the port is taken, the toolkit or OpenCV is missing, or the cache cannot
    be written.
    """
    try:
        from workers.demo.server import ClipServer  # noqa: PLC0415 - needs the toolkit, an extra
    except ImportError as error:
        raise UnavailableError(
            f"The demo cameras need {error.name or 'aio-rtsp-toolkit'}; `pip install 'nvision-hub[demo]'` brings it."
        ) from error
    directory = clip.path(settings.cache_dir, settings.scenes[0]).parent
    asyncio.run(_serve(settings, link, ClipServer(directory, settings.host, settings.port)))
    return None


async def _serve(settings: DemoSettings, link: Link, server: ClipServer) -> None:
    for scene in settings.scenes:
        server.expect(clip.path(settings.cache_dir, scene).name)
    try:
        await server.start()
    except OSError as error:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror or error})"
        raise UnavailableError(
            f"The demo cameras' port {settings.port} on {settings.host} {reason}; give them another one, "
            "or end what listens there."
        ) from error
    _log.info("demo cameras on rtsp://%s:%d", settings.host, server.bound_port)
    stop = threading.Event()
    published: set[str] = set()
    meter = Meter()
    usage = Usage(meter)

    def snapshot() -> Status:
        usage.note()
        drawn = len(published) == len(settings.scenes)
        return Status(
            **status_basis("serving" if drawn else "rendering"),
            ready=True,
            metrics=meter.snapshot(),
            row={"port": server.bound_port, "scenes": sorted(published), "clients": server.clients},
        )

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_publish(settings, server, stop, published))
            await link.run(snapshot)
            stop.set()
    except* UnavailableError as failed:
        raise failed.exceptions[0] from None
    finally:
        stop.set()
        await server.close()


async def _publish(settings: DemoSettings, server: ClipServer, stop: threading.Event, published: set[str]) -> None:
    """Draw what is missing, as many at a time as there are cores, and serve each clip as soon as it is complete."""
    loop = asyncio.get_running_loop()

    async def one(scene: str, drawing: ThreadPoolExecutor) -> None:
        path = await loop.run_in_executor(drawing, clip.render, settings.cache_dir, scene, stop)
        await server.publish(path)
        published.add(scene)
        _log.debug("demo camera %s is ready", scene)

    drawing = ThreadPoolExecutor(os.cpu_count(), "demo-drawing")
    try:
        await asyncio.gather(*(one(scene, drawing) for scene in settings.scenes))
    except clip.RenderingStopped:
        return
    finally:
        stop.set()
        drawing.shutdown(wait=False, cancel_futures=True)
