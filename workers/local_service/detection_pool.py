"""Threads that run the detectors, and the queue of images that wait for a thread."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from workers.local_service.image_queue import ImageQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from workers.local_service.image_queue import ImageSender

MAX_THREADS: Final = 16  # each thread has its own network, which needs about 35 MB with the packaged model

_Result = TypeVar("_Result")


class SkippedError(Exception):
    """Another image displaced this image before its turn: a newer one of its source, or one of another client."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job(Generic[_Result]):
    work: Callable[[], _Result]
    result: asyncio.Future[_Result]


class DetectionPool:
    """Pool of one thread per core, but at most `MAX_THREADS`. Only the thread of the event loop may use the pool.

    Images wait in the pool's own queue instead of the executor's queue, so a newer image can replace a waiting image.
    """

    def __init__(self) -> None:
        self._idle = min(len(os.sched_getaffinity(0)), MAX_THREADS)
        self._executor = ThreadPoolExecutor(self._idle, thread_name_prefix="detect")
        self._queue: ImageQueue[_Job[Any]] = ImageQueue()
        self._is_closed = False

    async def run(
        self,
        source: Hashable,
        work: Callable[[], _Result],
        *,
        sender: ImageSender,
        size_bytes: int,
        is_replaceable: bool,
    ) -> _Result:
        """Run `work` in a thread for an image of `source` from `sender`, and return its result.

        `size_bytes` is the size of the image file. Raises `SkippedError` if another image displaces this image, and
        `QueueFullError` immediately if too many images wait. Also raises the errors of `work`.
        """
        result: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        job = _Job(work=work, result=result)
        for displaced in self._queue.push(
            source, job, sender=sender, size_bytes=size_bytes, is_replaceable=is_replaceable
        ):
            if not displaced.result.done():
                displaced.result.set_exception(SkippedError())
        self._start_next()
        return await result

    def close(self) -> None:
        """Start no more images, and wait for the running threads."""
        self._is_closed = True
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _start_next(self) -> None:
        while self._idle and not self._is_closed and (turn := self._queue.pop()) is not None:
            source, job = turn
            if job.result.done():  # the request has been canceled
                self._queue.release(source)
                continue
            self._idle -= 1
            running = asyncio.get_running_loop().run_in_executor(self._executor, job.work)
            running.add_done_callback(partial(self._on_done, source, job))

    def _on_done(self, source: Hashable, job: _Job[Any], done: asyncio.Future[Any]) -> None:
        self._idle += 1
        self._queue.release(source)
        error = None if done.cancelled() else done.exception()
        if not job.result.done():  # otherwise, the request has been canceled
            if done.cancelled():
                job.result.cancel()
            elif error is not None:
                job.result.set_exception(error)
            else:
                job.result.set_result(done.result())
        self._start_next()
