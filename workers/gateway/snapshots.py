"""The last picture that a camera has sent, for whoever asks for one: watched once, waited for, and let go of."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nvision_hub.broker.publisher import connect
from nvision_hub.errors import UnavailableError
from workers.gateway.asks import RefusedError
from workers.gateway.feed import Listener
from workers.gateway.fleet import CAMERA
from workers.gateway.pictures import Cost, Picture, drawn, encoded_again
from workers.gateway.problems import ProblemError
from workers.gateway.watching import Wish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nvision_hub.broker.publisher import Stream
    from workers.gateway.asks import Asks
    from workers.gateway.feed import Feed
    from workers.gateway.watching import Watching

REDIS_WITHIN_S: Final = 5.0
PICTURE_WITHIN_S: Final = 5.0
RESULT_WITHIN_S: Final = 3.0
PICTURES_PER_S: Final = 5.0
WATCHED_FOR_S: Final = 2.0
RESULTS_LOOKED_THROUGH: Final = 300
MOST_AT_ONCE: Final = 8  # each holds a whole picture, and a core while it is drawn on

Detections = list[dict[str, Any]]


class Snapshots:
    """Of any camera."""

    def __init__(self, *, asks: Asks, feed: Feed, watching: Watching, stream: Stream) -> None:
        self._asks = asks
        self._feed = feed
        self._watching = watching
        self._stream = stream
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    async def jpeg(self, camera: str, *, boxes: bool) -> bytes:
        """The last picture sent, with the boxes of its own detections where asked for. Raises `ProblemError`."""
        async with self._room, self._heard(camera) as (pictures, results):
            picture = await self._picture(camera, pictures)
            if not boxes:
                return picture.jpeg
            found = await self._detections(picture.frame_id, results)
            try:
                return await asyncio.to_thread(drawn, picture, found)
            except UnavailableError as error:
                raise ProblemError(501, str(error)) from error
            except (ValueError, KeyError, TypeError) as error:
                raise ProblemError(409, f"The last picture of {camera} cannot be drawn on.") from error

    async def cost(self, camera: str, *, quality: int, max_width: int | None) -> Cost:
        """What its last picture would be with other settings. Raises `ProblemError`."""
        async with self._room, self._heard(camera) as (pictures, _):
            picture = await self._picture(camera, pictures)
            try:
                return await asyncio.to_thread(encoded_again, picture.jpeg, quality=quality, max_width=max_width)
            except ValueError as error:
                raise ProblemError(409, f"The last picture of {camera} cannot be encoded again.") from error

    @contextlib.asynccontextmanager
    async def _heard(self, camera: str) -> AsyncIterator[tuple[asyncio.Queue[bytes], asyncio.Queue[bytes]]]:
        """The camera's pictures and results from now on."""
        queues = {kind: asyncio.Queue[bytes](maxsize=10) for kind in ("previews", "results")}

        def heard(channel: str, data: bytes) -> None:
            queue = queues[channel.removeprefix(f"{self._stream.prefix}:").partition(":")[0]]
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(data)

        listener = Listener(heard=heard)
        channels = [f"{self._stream.prefix}:{kind}:{camera}" for kind in queues]
        self._feed.listen(listener, channels)
        try:
            try:
                async with asyncio.timeout(REDIS_WITHIN_S):
                    await self._feed.confirmed(channels)
            except TimeoutError as error:
                raise ProblemError(503, "Redis, over which pictures come, does not answer.") from error
            yield queues["previews"], queues["results"]
        finally:
            self._feed.leave(listener)

    async def _picture(self, camera: str, pictures: asyncio.Queue[bytes]) -> Picture:
        # A viewer as others are, or one with a small tile would have the last word about the width.
        viewer, wish = object(), Wish(cameras=frozenset({camera}), width=None, fps=PICTURES_PER_S)
        self._watching.wish(viewer, wish)
        try:
            arguments = {"width": wish.width, "fps": wish.fps, "for_s": WATCHED_FOR_S}
            await self._asks.ask("pass", target=CAMERA + camera, verb="watch", arguments=arguments)
            async with asyncio.timeout(PICTURE_WITHIN_S):
                while True:
                    with contextlib.suppress(ValueError):
                        picture = Picture.of(await pictures.get())
                        if picture.whole:  # not one that is meant for a viewer's small tile
                            return picture
        except RefusedError as error:
            raise ProblemError(409, f"Camera {camera} cannot be watched: {error}.") from error
        except TimeoutError as error:
            raise ProblemError(404, f"Camera {camera} has sent no picture yet.") from error
        finally:
            self._watching.leave(viewer)

    async def _detections(self, frame_id: str, results: asyncio.Queue[bytes]) -> Detections:
        """Of that very picture, once its result is there; none where it does not come in time."""
        known = await self._known(frame_id)
        if known is not None:
            return known
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESULT_WITHIN_S):
                while True:
                    event = json.loads(await results.get())
                    if event.get("frame_id") == frame_id:
                        return detections_of(event)
        return []

    async def _known(self, frame_id: str) -> Detections | None:
        """From the stream, where the result is there already."""
        client = connect(self._stream.url)
        try:
            entries: Any = await client.xrevrange(f"{self._stream.prefix}:results", count=RESULTS_LOOKED_THROUGH)
        except (RedisError, OSError):
            return None
        finally:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()
        for _, fields in entries:
            if frame_id.encode() in fields[b"event"]:
                event = json.loads(fields[b"event"])
                if event.get("frame_id") == frame_id:
                    return detections_of(event)
        return None


def detections_of(event: dict[str, Any]) -> Detections:
    """Objects and faces of one event."""
    return [*event.get("detected_objects", ()), *event.get("detected_faces", ())]
