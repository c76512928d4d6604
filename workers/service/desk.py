"""What the stream and the REST door share: admission, the analysis, the delay of trials, and the counts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from workers.service import answers

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from nvision_hub.status import Meter
    from nvision_hub.wire import NvisionRequest, Service
    from workers.service.admission import Admission
    from workers.service.analysis import Analysis, SourceKey
    from workers.service.callbacks import Callbacks

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
DRAIN_S: Final = 0.7


class Desk:
    """Takes admitted requests and answers them. One for the whole service; used in the event loop's thread only."""

    def __init__(
        self,
        *,
        service_id: str,
        admission: Admission,
        analysis: Analysis,
        callbacks: Callbacks | None,
        latency_s: float,
        meter: Meter,
    ) -> None:
        self.service_id = service_id
        self.admission = admission
        self.callbacks = callbacks
        self.meter = meter
        self.draining = asyncio.Event()
        self._analysis = analysis
        self._latency_s = latency_s
        self._sessions: set[asyncio.Task[None]] = set()
        self._under_way: dict[asyncio.Task[None], float] = {}

    @property
    def connections(self) -> int:
        """How many streams are open."""
        return len(self._sessions)

    @property
    def sources(self) -> int:
        """How many sources are remembered."""
        return self._analysis.sources

    @property
    def oldest_at(self) -> float | None:
        """When the longest-waiting request came, in monotonic seconds; None while none waits."""
        return min(self._under_way.values(), default=None)

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """One stream's time at the desk, in the task that serves it."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is served in a task")
        self._sessions.add(task)
        try:
            yield
        finally:
            self._sessions.discard(task)

    async def drain(self) -> None:
        """Have every stream send what is under way and end; returns when they have, or a moment later all the same."""
        self.draining.set()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=2 * DRAIN_S)

    async def close(self) -> None:
        """Give up what is still under way."""
        left = list(self._under_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def result(self, key: SourceKey, request: NvisionRequest) -> NvisionRequest:
        """The result of one request, no sooner than the configured delay; raises what the analysis raises."""
        began = time.monotonic()
        self.meter.count("service_requests_total", service=key.service)
        result = await self._analysis.result(key, request)
        self.meter.observe("service_seconds", time.monotonic() - began)
        for found in (*result.detected_objects, *result.detected_faces):
            self.meter.count("service_detections_total", service=key.service, name=found.name)
        await self.delay(began)
        return result

    def empty(self, request: NvisionRequest, service: Service) -> NvisionRequest:
        """The result of a picture in which nothing could be looked for."""
        return answers.answer(request, service=service, service_id=self.service_id)

    async def delay(self, began: float) -> None:
        """Wait until the configured delay after `began` is over."""
        await asyncio.sleep(max(0.0, began + self._latency_s - time.monotonic()))

    def refuse(self, reason: str) -> None:
        """Count one request that gets no result, or an empty one."""
        self.meter.count("service_refused_total", reason=reason)

    def undertake(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run `work` to its end, even when the connection that brought it is gone."""
        task = asyncio.create_task(work)
        self._under_way[task] = time.monotonic()
        task.add_done_callback(lambda done: self._under_way.pop(done, None))
        return task
