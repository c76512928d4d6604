"""Previews for whoever watches: the pictures that were sent, scaled down, on a channel of their own.

Published only while a watch is in force, and only what was handed to the uplink, so that a viewer sees what the service
sees, masks included. Scaling runs beside the event loop. Redis' absence costs viewers their pictures and nobody else
anything: previews are never queued, and their connection is not the one that results travel on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from typing import TYPE_CHECKING, Final

import simplejpeg
from redis.exceptions import RedisError

from nvision_hub.broker.connection import COMMAND_WITHIN_S, connect
from nvision_hub.errors import redact

if TYPE_CHECKING:
    import redis.asyncio

    from nvision_hub.broker.connection import Stream
    from nvision_hub.events import Sent

log = logging.getLogger("nvision_hub.camera")

MAX_FPS: Final = 30.0
MAX_WATCH_S: Final = 60.0  # a viewer that goes away without a word costs no more than this
QUALITY: Final = 75
REDIS_AWAY_S: Final = 1.0


class Previews:
    """One camera's. `run` is its task; everything happens in the event loop but scaling."""

    def __init__(self, stream: Stream, camera: str) -> None:
        self._stream = stream
        self._camera = camera
        self._last: tuple[Sent, bytes] | None = None  # kept unwatched, too, for whoever comes to watch a slow camera
        self._fresh = asyncio.Event()  # set while the last picture is still to be published
        self._watched = asyncio.Event()
        self._until = -math.inf  # monotonic
        self._width: int | None = None
        self._period_s = 1.0
        self._slot = -math.inf  # when the last one was due, monotonic
        self._retuned = asyncio.Event()

    def note(self, sent: Sent, jpeg: bytes) -> None:
        """A picture was just handed to the uplink."""
        self._last = sent, jpeg
        self._fresh.set()

    def watch(self, *, width: int | None, fps: float, for_s: float) -> None:
        """Publish for so many seconds from now, at most so often; the last picture at once where that is news.

        Scaled by eighths to the smallest that is at least `width` wide; None leaves pictures as they were sent.
        """
        now = time.monotonic()
        if self._last is not None and (now >= self._until or width != self._width):
            self._fresh.set()
        self._width = width
        self._period_s = 1 / min(max(fps, 1 / MAX_WATCH_S), MAX_FPS)
        self._until = now + min(for_s, MAX_WATCH_S)
        self._retuned.set()
        self._watched.set()

    async def run(self) -> None:
        """Publish while watched, for ever."""
        while True:
            await self._watched.wait()
            client = connect(self._stream.url)
            try:
                await self._publish_all(client)
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("no previews: %s", redact(str(error)))
                await asyncio.sleep(REDIS_AWAY_S)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()

    async def _publish_all(self, client: redis.asyncio.Redis) -> None:
        channel = f"{self._stream.prefix}:previews:{self._camera}"
        self._slot = time.monotonic() - self._period_s
        while (now := time.monotonic()) < self._until:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until - now):
                    await self._fresh.wait()
                    await self._turn()
            if self._last is None or not self._fresh.is_set() or time.monotonic() >= self._until:
                continue
            self._fresh.clear()
            self._slot = max(self._slot + self._period_s, time.monotonic() - self._period_s)
            sent, jpeg = self._last
            preview = await asyncio.to_thread(scaled, jpeg, self._width)
            async with asyncio.timeout(2 * COMMAND_WITHIN_S):
                await client.publish(channel, record(self._camera, sent, preview))
        self._watched.clear()

    async def _turn(self) -> None:
        """Pictures that come a little early wait for their time; whichever is the newest then is shown.

        That time is sooner as soon as somebody watches faster.
        """
        while (early_s := self._slot + self._period_s - time.monotonic()) > 0:
            self._retuned.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(early_s):
                    await self._retuned.wait()


def record(camera: str, sent: Sent, preview: bytes) -> bytes:
    """What goes over the channel: the length of a JSON header (4 bytes, big-endian), the header, a JPEG.

    `width` and `height` are those of the picture that was sent, which detections refer to.
    """
    header = json.dumps(
        {
            "camera": camera,
            "frame_id": sent.frame_id,
            "captured_at": sent.captured_at,
            "width": sent.width,
            "height": sent.height,
            "sequence": sent.sequence,
        },
        separators=(",", ":"),
    ).encode()
    return len(header).to_bytes(4, "big") + header + preview


def scaled(jpeg: bytes, width: int | None) -> bytes:
    """The picture in the smallest size by eighths that is at least `width` wide; as it is where it is none larger."""
    if width is None:
        return jpeg
    try:
        was = simplejpeg.decode_jpeg_header(jpeg)
        becomes = simplejpeg.decode_jpeg_header(jpeg, min_width=width)
        if was[1] <= width or becomes[1] >= was[1]:
            return jpeg
        pixels = simplejpeg.decode_jpeg(jpeg, "BGR", min_width=width, fastdct=True, fastupsample=True)
        return bytes(simplejpeg.encode_jpeg(pixels, QUALITY, "BGR", "420", fastdct=True))
    except ValueError:
        return jpeg  # a camera's own, of a kind that this library does not read: viewers may
