"""Pictures in, results out: each source's own in their order, different sources side by side in a few threads."""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import cv2

from nvision_hub.errors import UnavailableError
from nvision_hub.wire import options_of, picture_of
from workers.service import answers
from workers.service.pictures import open_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nvision_hub.wire import NvisionRequest, Options, Service
    from workers.service.detections import Detector

MOST_SOURCES: Final = 128  # remembered at a time; the one unheard of for longest is forgotten
IDLE_S: Final = 600.0  # a source is forgotten after so long: its background will have changed


class DetectionError(RuntimeError):
    """A detector failed on a picture that could be opened."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceKey:
    """Whose pictures belong together: one camera of one customer at one service."""

    service: Service
    key: str = field(repr=False)
    source: str


@dataclass(kw_only=True, slots=True)
class _Source:
    detector: Detector
    turn: asyncio.Lock
    last_at: float


class Analysis:
    """Holds each source's detector and the threads that run them."""

    def __init__(self, detectors: Mapping[Service, Callable[[], Detector]], service_id: str) -> None:
        self._detectors = detectors
        self._service_id = service_id
        self._sources: OrderedDict[SourceKey, _Source] = OrderedDict()
        self._pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 4), thread_name_prefix="detect")

    @property
    def sources(self) -> int:
        """How many sources are remembered."""
        return len(self._sources)

    async def result(self, key: SourceKey, request: NvisionRequest) -> NvisionRequest:
        """The result of one request, once the same source's earlier ones have theirs.

        Raises `WireError` for an option out of range or a picture not encoded as the request says, `PictureError`
        for one that cannot be opened, and `DetectionError`. Must not be cancelled: its thread would run on beside
        the same source's next.
        """
        options = options_of((option.parameter, option.value) for option in request.configurations)
        at = time.monotonic()
        source = self._source(key, at)
        async with source.turn:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, self._look, key.service, source.detector, request, options, at
            )

    def close(self) -> None:
        """Let the threads end; pictures that wait for one are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _source(self, key: SourceKey, at: float) -> _Source:
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = _Source(
                detector=self._detectors[key.service](), turn=asyncio.Lock(), last_at=at
            )
        source.last_at = at
        self._sources.move_to_end(key)
        oldest = next(iter(self._sources.values()))
        while len(self._sources) > MOST_SOURCES or at - oldest.last_at > IDLE_S:
            self._sources.popitem(last=False)
            oldest = next(iter(self._sources.values()))
        return source

    def _look(
        self, service: Service, detector: Detector, request: NvisionRequest, options: Options, at: float
    ) -> NvisionRequest:
        """One picture's way from file to result; runs in a thread of the pool."""
        pixels = open_picture(picture_of(request))
        try:
            found = detector.detect(pixels, at, options.confidence_threshold)
            return answers.answer(
                request,
                service=service,
                service_id=self._service_id,
                pixels=pixels,
                found=answers.wanted(found, options, request.target_classes),
                options=options,
            )
        except cv2.error as error:
            raise DetectionError(f"OpenCV failed in {error.func}") from error
        except UnavailableError as error:  # each thread loads a model anew, and its file may be gone by then
            raise DetectionError(str(error)) from error
