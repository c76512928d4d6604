"""Previews: downscaled copies of sent frames, published on a separate Redis channel.

The worker publishes previews only on request and only of frames that it has sent. Viewers therefore see the same frames
as the service, including masks. Scaling runs in a thread. The worker never queues previews. Previews and results use
separate connections to Redis, so a problem with previews does not delay results.
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

from nvision_hub.broker.client import COMMAND_TIMEOUT_S, open_client
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    import redis.asyncio

    from nvision_hub.broker.client import RedisSettings
    from nvision_hub.nvision.result_events import SentFrame

log = logging.getLogger("nvision_hub.camera")

MAX_FPS: Final = 30.0
MAX_REQUEST_S: Final = 60.0  # maximum time for which previews continue after a viewer disappears
QUALITY: Final = 75
REDIS_RETRY_INTERVAL_S: Final = 1.0


class PreviewPublisher:
    """Preview publisher of one camera. The caller starts `run` as a task."""

    def __init__(self, stream: RedisSettings, camera: str) -> None:
        self._stream = stream
        self._camera = camera
        # Keep the last frame, so that the first viewer of a slow camera sees a frame immediately.
        self._last: tuple[SentFrame, bytes] | None = None
        self._fresh = asyncio.Event()  # set while the last frame has not been published
        self._requested = asyncio.Event()
        self._until = -math.inf  # end of the request (monotonic)
        self._width: int | None = None
        self._period_s = 1.0
        self._due = -math.inf  # due time of the last preview (monotonic)
        self._request_changed = asyncio.Event()

    def push(self, sent: SentFrame, jpeg: bytes) -> None:
        """Offer a frame that was just sent."""
        self._last = sent, jpeg
        self._fresh.set()

    def request(self, *, width: int | None, fps: float, for_s: float) -> None:
        """Publish at most `fps` previews a second for the next `for_s` seconds, scaled to `width` by `scaled()`.

        If no request was active or the width changes, the last frame is published immediately.
        """
        now = time.monotonic()
        if self._last is not None and (now >= self._until or width != self._width):
            self._fresh.set()
        self._width = width
        self._period_s = 1 / min(max(fps, 1 / MAX_REQUEST_S), MAX_FPS)
        self._until = now + min(for_s, MAX_REQUEST_S)
        self._request_changed.set()
        self._requested.set()

    async def run(self) -> None:
        """Publish previews while they are requested. Runs until canceled."""
        while True:
            await self._requested.wait()
            try:
                async with open_client(self._stream.url) as client:
                    await self._publish_all(client)
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("previews failed: %s", redact(str(error)))
                await asyncio.sleep(REDIS_RETRY_INTERVAL_S)

    async def _publish_all(self, client: redis.asyncio.Redis) -> None:
        channel = f"{self._stream.prefix}:previews:{self._camera}"
        self._due = time.monotonic() - self._period_s
        while (now := time.monotonic()) < self._until:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until - now):
                    await self._fresh.wait()
                    await self._wait_until_due()
            if self._last is None or not self._fresh.is_set() or time.monotonic() >= self._until:
                continue
            self._fresh.clear()
            self._due = max(self._due + self._period_s, time.monotonic() - self._period_s)
            sent, jpeg = self._last
            preview = await asyncio.to_thread(scaled, jpeg, self._width)
            async with asyncio.timeout(2 * COMMAND_TIMEOUT_S):
                await client.publish(channel, record(self._camera, sent, preview))
        self._requested.clear()

    async def _wait_until_due(self) -> None:
        """Wait until the next preview is due. A request with a higher rate shortens the wait."""
        while (early_s := self._due + self._period_s - time.monotonic()) > 0:
            self._request_changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(early_s):
                    await self._request_changed.wait()


def record(camera: str, sent: SentFrame, preview: bytes) -> bytes:
    """Return a preview message: the length of a JSON header (4 bytes, big-endian), the header, and a JPEG.

    The header's `width` and `height` are the size of the sent frame, because detections refer to that frame.
    """
    facts = {name: getattr(sent, name) for name in ("frame_id", "captured_at", "width", "height", "sequence")}
    header = json.dumps({"camera": camera, **facts}, separators=(",", ":")).encode()
    return len(header).to_bytes(4, "big") + header + preview


def scaled(jpeg: bytes, width: int | None) -> bytes:
    """Downscale a JPEG in steps of an eighth to the smallest size with at least `width`; None keeps the size."""
    if width is None:
        return jpeg
    try:
        if simplejpeg.decode_jpeg_header(jpeg, min_width=width)[1] >= simplejpeg.decode_jpeg_header(jpeg)[1]:
            return jpeg
        pixels = simplejpeg.decode_jpeg(jpeg, "BGR", min_width=width, fastdct=True, fastupsample=True)
        return bytes(simplejpeg.encode_jpeg(pixels, QUALITY, "BGR", "420", fastdct=True))
    except ValueError:
        return jpeg  # simplejpeg cannot read this camera's JPEG, but browsers may be able to read it
