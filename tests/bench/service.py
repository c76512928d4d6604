"""Measure how fresh and even the local service's results are with 16 cameras, at its own rate and beyond.

Each camera is a client like the hub: it has a stream of its own and accepts notices of skipped frames. The service has
two cores, and shares them with the clients. The age of a frame is the time from its sending to its result, so it
includes the time that the frame waits in the service. Unlike the ages, the CPU time of an image hardly depends on other
work on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import psutil
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from nvision_hub.nvision import skipping
from nvision_hub.nvision.protocol import RequestOptions, decode, encode_request
from tests.bench.bench import cpu_s, two_cores
from tests.bench.report import Goal, Report, median, percentile
from tests.support.local_service import KEY, LocalService
from workers.demo.scene import SCENES

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from nvision_hub.config.value_types import ServiceName

CAMERAS: Final = 16
WARM_UP_S: Final = 5.0  # the service loads its model for the first frames
ANSWER_TIMEOUT_S: Final = 10.0
MAX_AGE_S: Final = 1.0
MAX_UNEVEN: Final = 1.1
MAX_CORES: Final = 1.5
SLOW_FPS: Final = 1.0  # two cores reach this rate
LOADS: Final[tuple[tuple[ServiceName, float], ...]] = (
    ("object-detection", SLOW_FPS),
    ("object-detection", 5.0),
    ("face-detection", 2.0),
)


@dataclass(kw_only=True)
class CameraRun:
    """One camera: the age of each result in seconds, and the number of notices.

    Answers that arrive after `ends_at` (monotonic) do not count, because no newer frames replace the last ones.
    """

    number: int
    stream: ClientConnection
    ends_at: float
    sent_at: dict[str, float] = field(default_factory=dict)  # unanswered frames by id; monotonic seconds
    ages_s: list[float] = field(default_factory=list)
    skipped: int = 0


def run(*, quick: bool) -> Report:
    seconds = 15.0 if quick else 60.0
    report = Report(
        name="service",
        columns=[
            "service",
            "frames sent",
            "results",
            "skipped",
            "age p50 / p99 / max",
            "camera, min / max",
            "CPU",
            "CPU of an image",
        ],
    )
    for service, fps in LOADS:
        runs, cores = _measure(service, fps, seconds)
        ages = [age for each in runs for age in each.ages_s]
        rates = [len(each.ages_s) / seconds for each in runs]
        skipped = sum(each.skipped for each in runs)
        image_s = cores / sum(rates)
        report.rows.append(
            [
                service,
                f"{CAMERAS} x {fps:g}/s",
                f"{sum(rates):.1f}/s",
                f"{100 * skipped / (len(ages) + skipped):.0f} %",
                " / ".join(f"{1000 * age:.0f}" for age in (median(ages), percentile(ages, 0.99), max(ages))) + " ms",
                f"{min(rates):.2f} / {max(rates):.2f} per s",
                f"{cores:.2f} cores",
                f"{1000 * image_s:.0f} ms",
            ]
        )
        load = f"{service} at {fps:g}/s"
        report.goals += [
            Goal(what=f"{load}: age of the oldest frame, s", value=max(ages), at_most=MAX_AGE_S),
            Goal(what=f"{load}: max / min results of a camera", value=max(rates) / min(rates), at_most=MAX_UNEVEN),
            Goal(what=f"{load}: frames without an answer", value=sum(len(each.sent_at) for each in runs), at_most=0),
        ]
        if fps == SLOW_FPS:
            report.goals += [
                Goal(what=f"{load}: skipped frames", value=skipped, at_most=0),
                Goal(what=f"{load}: CPU of all frames, cores", value=CAMERAS * fps * image_s, at_most=MAX_CORES),
            ]
    return report


def _measure(service: ServiceName, fps: float, seconds: float) -> tuple[list[CameraRun], float]:
    """Return what each camera received in `seconds` seconds, and the CPU use of the service in cores."""
    with tempfile.TemporaryDirectory(prefix="nvision-service-") as name, two_cores():
        server = LocalService(log=Path(name) / "log", settings={"port": 0, "streaming_keys": [KEY]})
        try:
            server.start()
            return asyncio.run(_cameras(server, service, fps, seconds))
        finally:
            server.kill()


async def _cameras(
    server: LocalService, service: ServiceName, fps: float, seconds: float
) -> tuple[list[CameraRun], float]:
    process = psutil.Process(server.process.pid)
    images = _images()
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(
                connect(
                    server.stream_url(service),
                    subprotocols=[Subprotocol(KEY)],
                    additional_headers=skipping.HEADERS,
                    compression=None,
                    proxy=None,
                )
            )
            for _ in range(CAMERAS)
        ]
        await _run_all(streams, images, fps, WARM_UP_S)
        began, before = time.monotonic(), cpu_s(process)
        runs = await _run_all(streams, images, fps, seconds)
        return runs, (cpu_s(process) - before) / (time.monotonic() - began)


async def _run_all(streams: list[ClientConnection], images: list[bytes], fps: float, seconds: float) -> list[CameraRun]:
    ends_at = time.monotonic() + seconds
    runs = [CameraRun(number=number, stream=stream, ends_at=ends_at) for number, stream in enumerate(streams)]
    async with asyncio.TaskGroup() as group:
        for each in runs:
            group.create_task(_run(each, images, fps, round(seconds * fps)))
    return runs


async def _run(camera: CameraRun, images: list[bytes], fps: float, frames: int) -> None:
    """Send frames, and wait for their answers. The phase of a camera depends on its number."""
    receiving = asyncio.create_task(_receive(camera, frames))
    began = time.monotonic() + camera.number / CAMERAS / fps
    for count in range(frames):
        await asyncio.sleep(max(0.0, began + count / fps - time.monotonic()))
        frame_id = str(count)
        data = encode_request(
            source_id=f"camera-{camera.number}",
            frame_id=frame_id,
            created_at="",
            image=images[(camera.number + count) % len(images)],
            options=RequestOptions(),
        )
        camera.sent_at[frame_id] = time.monotonic()
        await camera.stream.send(data)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(receiving, ANSWER_TIMEOUT_S)


async def _receive(camera: CameraRun, frames: int) -> None:
    for _ in range(frames):
        message = decode(await camera.stream.recv())
        now = time.monotonic()
        age_s = now - camera.sent_at.pop(message.frame_id)
        if now > camera.ends_at:
            continue
        if skipping.is_notice(message):
            camera.skipped += 1
        else:
            camera.ages_s.append(age_s)


def _images() -> list[bytes]:
    """Return frames of the demo's scenes as JPEG files."""
    images = []
    for scene in SCENES.values():
        for moment in range(0, 400, 100):
            image = scene.backdrop()
            scene.draw(image, moment)
            images.append(cv2.imencode(".jpg", image)[1].tobytes())
    return images
