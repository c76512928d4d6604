"""What the hub is measured against, each a program: `python -m tests.bench.contender KIND JSON`. Runs until killed.

    documented   the agent of the service's documentation: read one picture, send it, wait a fifth of a second
    loop         the same, kept up to date: read every picture, send those that are due
    grab         grab every picture, retrieve and send those that are due
    ffmpeg       a process of FFmpeg gives raw pictures at the rate that is wanted, as recorders built on it do
    pyav         PyAV decodes every picture; those that are due go through BGR to OpenCV's encoder
    decode       PyAV decodes every picture and does nothing with it: what any agent must pay that sends them all
    demux        PyAV reads every packet and decodes none: what any agent must pay that passes pictures on

The JSON has `camera` and `service` (addresses), `key`, `source_id`, `fps` and `width` (null: as it is), and `size` of
what is sent, for those that cannot ask. Written as users of these libraries write it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import websockets

from nvision_hub.wire import NvisionRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp"


def message(settings: dict[str, Any], number: int, picture: Any) -> bytes:
    import cv2  # noqa: PLC0415 - `decode` does not need it, and should not pay for it

    if settings["width"] is not None:
        height = picture.shape[0] * settings["width"] // picture.shape[1]
        picture = cv2.resize(picture, (settings["width"], height))
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return NvisionRequest(
        source_id=settings["source_id"],
        frame_id=str(number),
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        raw_data=jpeg.tobytes(),
    ).SerializeToString()


async def documented(settings: dict[str, Any]) -> None:
    import cv2  # noqa: PLC0415 - see above

    async with websockets.connect(settings["service"], subprotocols=[settings["key"]], max_size=None) as socket:
        listening = asyncio.create_task(results(socket))
        capture, number = cv2.VideoCapture(settings["camera"]), 0
        while True:
            good, picture = capture.read()
            if not good:
                break
            await socket.send(message(settings, number, picture))
            number += 1
            await asyncio.sleep(1 / settings["fps"])
        listening.cancel()


async def stream(settings: dict[str, Any], due_pictures: Callable[[dict[str, Any]], Iterator[Any]]) -> None:
    """Send every picture that comes; the source alone knows which are due."""
    async with websockets.connect(settings["service"], subprotocols=[settings["key"]], max_size=None) as socket:
        listening = asyncio.create_task(results(socket))
        for number, picture in enumerate(due_pictures(settings)):
            await socket.send(message(settings, number, picture))
            await asyncio.sleep(0)
        listening.cancel()


async def results(socket: websockets.ClientConnection) -> None:
    async for _ in socket:
        pass


class Due:
    """When the next picture is; after a gap nothing is owed for more than the last second."""

    def __init__(self, fps: float) -> None:
        self._period, self._next = 1 / fps, time.monotonic()

    def now(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = max(self._next + self._period, now - 1)
        return True


def loop(settings: dict[str, Any]) -> Iterator[Any]:
    import cv2  # noqa: PLC0415 - see above

    capture, due = cv2.VideoCapture(settings["camera"]), Due(settings["fps"])
    while True:
        good, picture = capture.read()
        if not good:
            return
        if due.now():
            yield picture


def grab(settings: dict[str, Any]) -> Iterator[Any]:
    import cv2  # noqa: PLC0415 - see above

    capture, due = cv2.VideoCapture(settings["camera"]), Due(settings["fps"])
    while capture.grab():
        if due.now():
            good, picture = capture.retrieve()
            if good:
                yield picture


def ffmpeg(settings: dict[str, Any]) -> Iterator[Any]:
    import cv2  # noqa: PLC0415 - see above
    import numpy as np  # noqa: PLC0415 - see above

    width, height = settings["size"]
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-threads", "2", "-rtsp_transport", "tcp"]
    command += ["-i", settings["camera"], "-an", "-r", str(settings["fps"]), "-s", f"{width}x{height}"]
    command += ["-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=10**8) as process:
        assert process.stdout is not None
        while len(raw := process.stdout.read(width * height * 3 // 2)) == width * height * 3 // 2:
            planes = np.frombuffer(raw, np.uint8).reshape(height * 3 // 2, width)
            yield cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)


def pyav(settings: dict[str, Any]) -> Iterator[Any]:
    import av  # noqa: PLC0415 - only here

    due = Due(settings["fps"])
    with av.open(settings["camera"], options={"rtsp_transport": "tcp"}, timeout=(10, 10)) as container:
        for frame in container.decode(video=0):
            if due.now():
                yield frame.to_ndarray(format="bgr24")


def decode(settings: dict[str, Any]) -> None:
    import av  # noqa: PLC0415 - only here

    with av.open(settings["camera"], options={"rtsp_transport": "tcp"}, timeout=(10, 10)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass


def demux(settings: dict[str, Any]) -> None:
    import av  # noqa: PLC0415 - only here

    with av.open(settings["camera"], options={"rtsp_transport": "tcp"}, timeout=(10, 10)) as container:
        for _ in container.demux(video=0):
            pass


if __name__ == "__main__":
    kind, given = sys.argv[1], json.loads(sys.argv[2])
    match kind:
        case "documented":
            asyncio.run(documented(given))
        case "decode":
            decode(given)
        case "demux":
            demux(given)
        case _:
            asyncio.run(stream(given, {"loop": loop, "grab": grab, "ffmpeg": ffmpeg, "pyav": pyav}[kind]))
