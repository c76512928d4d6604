"""Request handling for WebSocket and REST: rate limits, detection, artificial latency and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import cv2

from nvision_hub.errors import UnavailableError
from nvision_hub.metrics import catalogue
from nvision_hub.nvision.protocol import RequestOptions, image_bytes, parse_options
from workers.local_service import responses
from workers.local_service.detection_pool import DetectionPool
from workers.local_service.images import open_image
from workers.local_service.inference import opencv_reason
from workers.local_service.overload import OverloadMonitor
from workers.local_service.rate_limit import KeyRateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from nvision_hub.config.value_types import ServiceName
    from nvision_hub.metrics.meter import Meter
    from nvision_hub.nvision.nvision_pb2 import NvisionRequest
    from workers.local_service.callbacks import Callbacks
    from workers.local_service.detection_types import Detector
    from workers.local_service.image_queue import ImageSender
    from workers.local_service.settings import LocalServiceSettings

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
STREAM_DRAIN_TIMEOUT_S: Final = 0.7
MAX_SOURCES: Final = 128  # above this number, the handler drops the least recently used source
# The handler drops a source that is idle for this time, because the camera's view may have changed.
MAX_IDLE_S: Final = 600.0

_log = logging.getLogger("nvision_hub.service")

_Result = TypeVar("_Result")


class DetectionError(RuntimeError):
    """A detector failed on a valid image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceKey:
    """One camera of one customer for one service."""

    service: ServiceName
    key: str = field(repr=False)
    source: str


@dataclass(kw_only=True, slots=True)
class _SourceState:
    detector: Detector
    last_at: float


class RequestHandler:
    """Handler for the admitted requests of all clients. Only the thread of the event loop may use the handler."""

    def __init__(
        self,
        settings: LocalServiceSettings,
        detectors: Mapping[ServiceName, Callable[[], Detector]],
        callbacks: Callbacks | None,
        meter: Meter,
    ) -> None:
        self.service_id = str(uuid.uuid4())
        self.limiter = KeyRateLimiter(settings.streaming_keys, settings.rate_limit_per_s)
        self.callbacks = callbacks
        self.draining = asyncio.Event()
        self.sessions: set[asyncio.Task[Any]] = set()  # the task of each open stream
        self.sources: OrderedDict[SourceKey, _SourceState] = OrderedDict()  # ordered by last use, oldest first
        self._meter = meter
        self._latency_s = settings.latency_s
        self._detectors = detectors
        self._pool = DetectionPool()
        self._overload = OverloadMonitor()
        self._running: dict[asyncio.Task[Any], float] = {}  # unfinished requests and their arrival times

    def oldest_at(self, now: float) -> float:
        """Return the arrival time of the oldest unfinished request, or `now` (monotonic seconds) if there is none."""
        return min(self._running.values(), default=now)

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Register the current task as an open stream."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        self.sessions.add(task)
        try:
            yield
        finally:
            self.sessions.discard(task)

    async def drain(self) -> None:
        """Make every stream send its pending results and end. Wait for a limited time until all streams have ended."""
        self.draining.set()
        if self.sessions:
            await asyncio.wait(self.sessions, timeout=2 * STREAM_DRAIN_TIMEOUT_S)

    async def close(self) -> None:
        """Cancel unfinished requests, and wait for running threads."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.close()

    def start(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """Run `work` in a task. `oldest_at` includes the task until it ends."""
        task = asyncio.create_task(work)
        self._running[task] = time.monotonic()
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        del self._running[task]
        if not task.cancelled():
            task.exception()  # retrieve the error; otherwise, asyncio logs it after a disconnect

    async def result(
        self, key: SourceKey, request: NvisionRequest, *, sender: ImageSender, is_replaceable: bool = False
    ) -> NvisionRequest:
        """Return the result of one request, after the earlier requests of its source and after the configured latency.

        If `is_replaceable`, a newer request of the source may replace this request while it waits. At the limits of the
        queue, requests from `sender` compete with requests from other senders. Run this coroutine with `start`, so that
        `oldest_at` includes it. Raises `ProtocolError` for an invalid option or encoding, `ImageError` for an
        unreadable image, `SkippedError` for a displaced request, `QueueFullError` immediately if too many requests
        wait, and `DetectionError`.
        """
        at = time.monotonic()
        self._meter.count(catalogue.SERVICE_REQUESTS_TOTAL, service=key.service)
        options = parse_options((option.parameter, option.value) for option in request.configurations)
        detector = self._source(key, at).detector
        result = await self._pool.run(
            key,
            partial(self._detect, key.service, detector, request, options, at),
            sender=sender,
            size_bytes=len(request.raw_data),
            is_replaceable=is_replaceable,
        )
        self._meter.observe(catalogue.SERVICE_SECONDS, time.monotonic() - at)
        for detection in (*result.detected_objects, *result.detected_faces):
            self._meter.count(catalogue.SERVICE_DETECTIONS_TOTAL, service=key.service, name=detection.name)
        await self.delay(at)
        return result

    async def delay(self, started_at: float) -> None:
        """Wait until the configured latency has passed since `started_at`."""
        await asyncio.sleep(max(0.0, started_at + self._latency_s - time.monotonic()))

    def count_refusal(self, reason: str) -> None:
        """Count one request that received no result or an empty result."""
        self._meter.count(catalogue.SERVICE_REFUSED_TOTAL, reason=reason)
        if reason not in {"skipped", "overload"}:
            return
        report = self._overload.skip(time.monotonic(), round(self._meter.total(catalogue.SERVICE_REQUESTS_TOTAL)))
        if report is not None:
            _log.warning(
                "skipped %d of %d images in %.0f s: the service is slower than its clients; lower `fps` of the "
                "cameras, or choose a faster model (`nvision.model`, `nvision.face_model`)",
                report.skipped,
                report.images,
                report.seconds,
                extra={"event": "images_skipped"},
            )

    def _source(self, key: SourceKey, at: float) -> _SourceState:
        source = self.sources.get(key)
        if source is None:
            source = self.sources[key] = _SourceState(detector=self._detectors[key.service](), last_at=at)
        source.last_at = at
        self.sources.move_to_end(key)
        while len(self.sources) > MAX_SOURCES or at - next(iter(self.sources.values())).last_at > MAX_IDLE_S:
            self.sources.popitem(last=False)
        return source

    def _detect(
        self, service: ServiceName, detector: Detector, request: NvisionRequest, options: RequestOptions, at: float
    ) -> NvisionRequest:
        """Decode an image and detect objects. Runs in a thread of the pool."""
        pixels = open_image(image_bytes(request))
        try:
            detections = detector.detect(pixels, at, options.confidence_threshold)
            selected = responses.select(detections, options, request.target_classes)
            return responses.result_message(
                request, service, self.service_id, pixels=pixels, detections=selected, options=options
            )
        except cv2.error as error:
            raise DetectionError(f"OpenCV failed: {opencv_reason(error)}") from error
        except UnavailableError as error:  # every new thread loads the model file, which may no longer exist
            raise DetectionError(str(error)) from error
