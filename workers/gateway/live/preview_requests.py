"""Requests for previews. The gateway repeats the request for a camera while the camera has viewers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from nvision_hub.runtime.messages import RequestPreview

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.gateway.api.control import FleetControl

REQUEST_INTERVAL_S: Final = 2.0
DURATION_S: Final = 5.0  # longer than two intervals, so that previews continue if one request is lost
MIN_INTERVAL_S: Final = 0.2  # minimum time between requests, even while a viewer scrolls fast


class PreviewRequest(BaseModel):
    """Request of one viewer. `width` is in pixels; None means the width of the frames sent to the service."""

    model_config = ConfigDict(frozen=True, validate_by_name=True)

    cameras: frozenset[StrictStr] = Field(default=frozenset(), validation_alias="watch", max_length=1_000)
    width: StrictInt | None = Field(default=640, ge=16, le=16_384)
    fps: StrictFloat = Field(default=5.0, gt=0, le=30)


def merge_requests(requests: Iterable[PreviewRequest]) -> dict[str, RequestPreview]:
    """Return one message per camera, with the largest width and the highest rate that any viewer requests."""
    merged: dict[str, RequestPreview] = {}
    for request in requests:
        for camera in request.cameras:
            other = merged.get(camera, request)
            width = None if request.width is None or other.width is None else max(request.width, other.width)
            merged[camera] = RequestPreview(width=width, fps=max(request.fps, other.fps), duration_s=DURATION_S)
    return merged


class PreviewRequests:
    """Preview requests of all viewers. Any object can identify a viewer. The caller starts `run` as a task."""

    def __init__(self, control: FleetControl) -> None:
        self._control = control
        self._requests: dict[object, PreviewRequest] = {}
        self._changed = asyncio.Event()

    def set(self, viewer: object, request: PreviewRequest) -> None:
        self._requests[viewer] = request
        self._changed.set()

    def remove(self, viewer: object) -> None:
        self._requests.pop(viewer, None)

    async def run(self) -> None:
        while True:
            if not any(request.cameras for request in self._requests.values()):
                await self._changed.wait()
            self._changed.clear()
            for camera, message in merge_requests(self._requests.values()).items():
                if self._control.fleet.camera(camera) is not None:
                    self._control.forward(camera, message)
            await asyncio.sleep(MIN_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REQUEST_INTERVAL_S - MIN_INTERVAL_S):
                    await self._changed.wait()
