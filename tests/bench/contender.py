"""Programs to compare the hub with: `python -m tests.bench.contender KIND JSON`. They run until they are killed.

    documented   the agent in the service's documentation: read a frame, send the frame, wait for one frame interval
    loop         the same agent, but able to keep up: read every frame, send the frames that are due
    grab         grab every frame, retrieve and send the frames that are due
    ffmpeg       an FFmpeg process returns raw frames at the target rate, as in recorders based on FFmpeg
    pyav         PyAV decodes every frame; due frames are converted to BGR and encoded by OpenCV
    decode       PyAV decodes every frame and discards it: the minimum for an agent that sends every frame
    demux        PyAV reads every packet and decodes no frame: the minimum for an agent that forwards frames

The JSON has `camera` and `service` (addresses), `key`, `source_id`, `fps` and `width` (null: unchanged). `size` is the
size of the frames, for contenders that cannot query it. Each contender uses its library in the usual way.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import websockets

from nvision_hub.nvision.nvision_pb2 import NvisionRequest
from nvision_hub.timestamps import iso_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp"


def message(settings: dict[str, Any], number: int, image: Any) -> bytes:
    import cv2  # noqa: PLC0415 - `decode` does not need OpenCV and must not pay for the import

    if settings["width"] is not None:
        height = image.shape[0] * settings["width"] // image.shape[1]
        image = cv2.resize(image, (settings["width"], height))
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return NvisionRequest(
        source_id=settings["source_id"],
        frame_id=str(number),
        created_at=iso_utc(time.time()),
        raw_data=jpeg.tobytes(),
    ).SerializeToString()


async def documented(settings: dict[str, Any]) -> None:
    import cv2  # noqa: PLC0415 - see above

    async with websockets.connect(settings["service"], subprotocols=[settings["key"]], max_size=None) as socket:
        listening = asyncio.create_task(results(socket))
        capture, number = cv2.VideoCapture(settings["camera"]), 0
        while True:
            good, image = capture.read()
            if not good:
                break
            await socket.send(message(settings, number, image))
            number += 1
            await asyncio.sleep(1 / settings["fps"])
        listening.cancel()


async def stream(settings: dict[str, Any], due_frames: Callable[[dict[str, Any]], Iterator[Any]]) -> None:
    """Send every frame that the source yields. The source decides which frames are due."""
    async with websockets.connect(settings["service"], subprotocols=[settings["key"]], max_size=None) as socket:
        listening = asyncio.create_task(results(socket))
        for number, image in enumerate(due_frames(settings)):
            await socket.send(message(settings, number, image))
            await asyncio.sleep(0)
        listening.cancel()


async def results(socket: websockets.ClientConnection) -> None:
    async for _ in socket:
        pass


class Due:
    """Schedule of due frames. After a gap, at most one second's worth of frames is due at once."""

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
        good, image = capture.read()
        if not good:
            return
        if due.now():
            yield image


def grab(settings: dict[str, Any]) -> Iterator[Any]:
    import cv2  # noqa: PLC0415 - see above

    capture, due = cv2.VideoCapture(settings["camera"]), Due(settings["fps"])
    while capture.grab():
        if due.now():
            good, image = capture.retrieve()
            if good:
                yield image


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
