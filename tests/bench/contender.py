"""What the hub is measured against, each a program: `python -m tests.bench.contender KIND JSON`. Runs until killed.

    documented   the agent of the service's documentation: read one picture, send it, wait a fifth of a second
    loop         the same, kept up to date: read every picture, send those that are due
    decode       PyAV decodes every picture and does nothing with it: what any agent must pay that sends them all

The JSON has `camera` and `service` (addresses), `key`, `source_id`, `fps` and `width` (null: as it is). Written as
users of OpenCV write it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any

import websockets

from nvision_hub.wire import NvisionRequest

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


async def stream(settings: dict[str, Any], *, documented: bool) -> None:
    import cv2  # noqa: PLC0415 - see above

    async with websockets.connect(settings["service"], subprotocols=[settings["key"]], max_size=None) as socket:

        async def results() -> None:
            async for _ in socket:
                pass

        listening = asyncio.create_task(results())
        capture = cv2.VideoCapture(settings["camera"])
        number, due = 0, time.monotonic()
        while True:
            good, picture = capture.read()
            if not good:
                break
            if documented:
                await socket.send(message(settings, number, picture))
                number += 1
                await asyncio.sleep(1 / settings["fps"])
            elif time.monotonic() >= due:
                due = max(due + 1 / settings["fps"], time.monotonic() - 1)
                await socket.send(message(settings, number, picture))
                number += 1
                await asyncio.sleep(0)
        listening.cancel()


def decode(settings: dict[str, Any]) -> None:
    import av  # noqa: PLC0415 - only here

    with av.open(settings["camera"], options={"rtsp_transport": "tcp"}, timeout=(10, 10)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass


if __name__ == "__main__":
    kind, given = sys.argv[1], json.loads(sys.argv[2])
    if kind == "decode":
        decode(given)
    else:
        asyncio.run(stream(given, documented=kind == "documented"))
