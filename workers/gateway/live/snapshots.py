"""Snapshots for the API. A snapshot is the last frame of a camera at full size, requested as a preview."""

from __future__ import annotations

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import RedisError

from nvision_hub.errors import UnavailableError
from nvision_hub.runtime.messages import Forward
from workers.gateway.api.problem_details import ProblemError
from workers.gateway.live.frame_image import (
    DrawnDetection,
    DrawnResult,
    FrameImage,
    FrameSize,
    FrameTooLargeError,
    draw_boxes,
    frame_size,
)
from workers.gateway.live.preview_requests import PreviewRequest, merge_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import redis.asyncio

    from workers.gateway.api.control import FleetControl
    from workers.gateway.live.preview_requests import PreviewRequests
    from workers.gateway.live.pubsub import PubSubClient

REDIS_TIMEOUT_S: Final = 5.0
FRAME_TIMEOUT_S: Final = 5.0
RESULT_TIMEOUT_S: Final = 3.0
MAX_RESULTS_SEARCHED: Final = 300
_PAGE: Final = 10  # results to read at once; few, because a result may be large
MAX_CONCURRENT: Final = 8  # each request holds a full frame in memory
MAX_WAITING: Final = 32  # additional requests are rejected

_T = TypeVar("_T")


class SnapshotService:
    def __init__(
        self, control: FleetControl, pubsub: PubSubClient, previews: PreviewRequests, client: redis.asyncio.Redis
    ) -> None:
        self._control = control
        self._pubsub = pubsub
        self._previews = previews
        self._client = client
        self._semaphore = asyncio.Semaphore(MAX_CONCURRENT)
        self._waiting = 0
        self._decoder = ThreadPoolExecutor(1, "decoder")  # decodes one frame at a time, even after canceled requests

    async def jpeg(self, camera: str, *, boxes: bool) -> bytes:
        """Return a JPEG of the last frame sent to the service, optionally with boxes. Raises `ProblemError`."""
        async with self._slot(), self._subscribe(camera) as (previews, results):
            frame = await self._frame(camera, previews)
            if not boxes:
                return frame.jpeg
            try:
                detections = await self._detections(frame.frame_id, results)
            except ValueError as error:
                raise _unreadable(camera) from error
            return await self._decoded(camera, partial(draw_boxes, frame, detections))

    async def frame_size(self, camera: str, *, fps: float, quality: int, max_width: int | None) -> FrameSize:
        """Return the size that the camera's last frame would have under other settings. Raises `ProblemError`."""
        async with self._slot(), self._subscribe(camera) as (previews, _):
            frame = await self._frame(camera, previews)
            work = partial(frame_size, frame.jpeg, fps=fps, quality=quality, max_width=max_width)
            return await self._decoded(camera, work)

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING:
            raise ProblemError(503, "too_many_requests", "Too many requests for frames are waiting; try again later.")
        self._waiting += 1
        try:
            await self._semaphore.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._semaphore.release()

    async def _decoded(self, camera: str, work: Callable[[], _T]) -> _T:
        """Run a function that decodes the camera's last frame. Raises `ProblemError`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoder, work)
        except UnavailableError as error:
            raise ProblemError(501, "opencv_missing", str(error)) from error
        except FrameTooLargeError as error:
            raise ProblemError(409, "frame_too_large", f"The last frame of {camera} is too large: {error}.") from error
        except MemoryError as error:
            detail = f"The gateway has too little memory for the last frame of {camera}."
            raise ProblemError(503, "out_of_memory", detail) from error
        except ValueError as error:
            raise _unreadable(camera) from error

    @contextlib.asynccontextmanager
    async def _subscribe(self, camera: str) -> AsyncIterator[tuple[asyncio.Queue[bytes], asyncio.Queue[bytes]]]:
        """Yield two queues: the camera's new previews, and its new results."""
        prefix = self._pubsub.prefix
        queues = {f"{prefix}:{kind}:{camera}": asyncio.Queue[bytes](10) for kind in ("previews", "results")}

        def on_message(channel: str, data: bytes) -> None:
            if queues[channel].full():
                queues[channel].get_nowait()
            queues[channel].put_nowait(data)

        self._pubsub.subscribe(on_message, queues)
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                await self._pubsub.wait_confirmed(queues)
        except TimeoutError as error:
            detail = "Redis does not reply; restore Redis to receive previews."
            raise ProblemError(503, "redis_unreachable", detail) from error
        else:
            previews, results = queues.values()
            yield previews, results
        finally:
            self._pubsub.unsubscribe(on_message)

    async def _frame(self, camera: str, previews: asyncio.Queue[bytes]) -> FrameImage:
        # Register as a viewer. Otherwise, the repeated request for a viewer with a small tile would reduce the width.
        viewer, request = object(), PreviewRequest(cameras=frozenset({camera}), width=None)
        self._previews.set(viewer, request)
        try:
            message = merge_requests([request])[camera]
            reply = await self._control.reply(Forward(target=self._control.camera(camera).name, message=message))
            if reply.error is not None:
                raise ProblemError(409, "preview_rejected", f"Camera {camera} cannot send previews: {reply.error}.")
            async with asyncio.timeout(FRAME_TIMEOUT_S):
                while True:
                    with contextlib.suppress(ValueError):
                        frame = FrameImage.decode(await previews.get())
                        if frame.is_full_size:  # viewers may have requested smaller previews
                            return frame
        except TimeoutError as error:
            raise ProblemError(404, "no_frame", f"Camera {camera} has sent no frame yet.") from error
        finally:
            self._previews.remove(viewer)

    async def _detections(self, frame_id: str, results: asyncio.Queue[bytes]) -> list[DrawnDetection]:
        """Return the detections in the frame; an empty list if the result is late.

        Raises `ValueError` if the result is malformed.
        """
        with contextlib.suppress(RedisError, OSError):
            end = "+"
            for _ in range(MAX_RESULTS_SEARCHED // _PAGE):
                page: Any = await self._client.xrevrange(f"{self._pubsub.prefix}:results", end, count=_PAGE)
                for _, fields in page:
                    if (found := _detections_of(fields.get(b"event", b""), frame_id)) is not None:
                        return found
                if len(page) < _PAGE:
                    break
                end = f"({page[-1][0].decode()}"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESULT_TIMEOUT_S):
                while True:
                    if (found := _detections_of(await results.get(), frame_id)) is not None:
                        return found
        return []


def _unreadable(camera: str) -> ProblemError:
    return ProblemError(409, "frame_unreadable", f"The last frame of {camera} or its result cannot be read.")


def _detections_of(record: bytes, frame_id: str) -> list[DrawnDetection] | None:
    """Return the objects and faces of an event; None if the event belongs to another frame or is not a JSON object.

    Raises `ValueError` if the event belongs to the frame but is malformed.
    """
    if frame_id.encode() not in record:
        return None
    try:
        event = json.loads(record)
    except (ValueError, RecursionError):
        return None  # another program published this message
    if not isinstance(event, dict) or event.get("frame_id") != frame_id:
        return None
    result = DrawnResult.model_validate(event)
    return [*result.detected_objects, *result.detected_faces]
