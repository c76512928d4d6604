"""Callback endpoint for the results that Nvision posts to the callback URL set in the Nvision portal.

The receiver converts each result to an event and publishes it to Redis like any other event. It reports the answered
frames in batches to the workers that sent them. Each worker counts its frames as answered and follows the detected
objects.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from nvision_hub.config.value_types import Secret
from nvision_hub.metrics import catalogue
from nvision_hub.nvision import result_events
from nvision_hub.nvision.result_events import EventOrigin
from nvision_hub.runtime.messages import AnsweredFrame, FramesAnswered, PostedDetection
from workers.gateway.api.problem_details import ProblemError, documented

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nvision_hub.broker.publisher import Publisher
    from nvision_hub.metrics.meter import Meter
    from workers.gateway.api.auth import AccessPolicy
    from workers.gateway.api.control import FleetControl
    from workers.gateway.settings import GatewaySettings

UNKNOWN: Final = "unknown"
READ_TIMEOUT_S: Final = 30.0
FORWARD_INTERVAL_S: Final = 1.0
# Maximums per message. With these, a message fits into the pipe even with the longest names.
MAX_FRAMES: Final = 300
MAX_DETECTIONS: Final = 100
# If a body is too large, the gateway still reads up to this many times the limit before it responds. A client reads the
# response only after it has sent the whole body.
MAX_DISCARD_FACTOR: Final = 4
MAX_NAME_CHARACTERS: Final = 64
MAX_NAMES: Final = 20
_DETECTIONS: Final = ("detected_objects", "detected_faces")
_TEXTS: Final = ("service_id", "source_id", "frame_id")


class _ShapeError(ValueError):
    """The body is JSON but not a result."""


class CallbackReceiver:
    """Receiver of results. The caller starts `run` as a task."""

    def __init__(
        self,
        settings: GatewaySettings,
        access: AccessPolicy,
        control: FleetControl,
        publisher: Publisher,
        meter: Meter,
    ) -> None:
        self._access = access
        self._settings = settings
        self._control = control
        self._publisher = publisher
        self._meter = meter
        self._answered: defaultdict[str, list[AnsweredFrame]] = defaultdict(list)  # by camera
        self._arrived = asyncio.Event()

    async def receive(self, token: str, request: Request) -> None:
        """Receive one result. Raises `ProblemError` on failure. Reads the body only if the token is correct."""
        expected = self._settings.callback_token
        if expected is None:
            detail = "The callback endpoint is disabled; set gateway.callback_token in cameras.yaml to enable it."
            raise ProblemError(404, "callback_disabled", detail)
        if Secret(token) != expected:
            peer = None if request.client is None else request.client.host
            raise self._access.reject_callback(headers=request.headers, peer=peer)
        result = read_result(await self._body(request))
        now, camera = time.time(), result.get("source_id") or ""
        process = self._control.fleet.camera(camera)
        settings = process.facts.settings if process is not None else {}
        origin = EventOrigin(
            site=self._settings.site,
            camera=UNKNOWN if process is None else camera,
            labels=settings.get("labels", {}),
            service=settings.get("nvision", {}).get("service"),
        )
        event = result_events.callback_event(result, origin, received_at=now)
        detections = (*event["detected_objects"], *event.get("detected_faces", ()))
        names = [detection["name"][:MAX_NAME_CHARACTERS] for detection in detections]
        self._meter.count(catalogue.RESULTS_RECEIVED_TOTAL, camera=origin.camera)
        for name in names:
            self._meter.count(catalogue.DETECTIONS_TOTAL, camera=origin.camera, name=name)
        self._publisher.publish(origin.camera, event)
        if process is not None:
            process.result_at, process.result_names = now, tuple(names[:MAX_NAMES])
            if event["hub"]["id"] == event["frame_id"]:
                is_tracked = settings.get("tracking", {}) is not None
                posted = posted_detections(detections) if is_tracked else ()
                frame = AnsweredFrame(frame_id=event["frame_id"], at=time.monotonic(), detections=posted)
                self._answered[camera].append(frame)
                self._arrived.set()

    async def run(self) -> None:
        """Report answered frames to the workers of the cameras at most once a second, until canceled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            await asyncio.sleep(FORWARD_INTERVAL_S)
            answered, self._answered = self._answered, defaultdict(list)
            for camera, frames in answered.items():
                for message in messages(frames):
                    self._control.forward(camera, message)

    async def _body(self, request: Request) -> bytes:
        limit = self._settings.callback_max_bytes
        body, size = bytearray(), 0
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= limit:
                        body += chunk
                    elif size > MAX_DISCARD_FACTOR * limit:
                        break
        except ClientDisconnect as error:
            raise ProblemError(400, "body_incomplete", "The body ended early.") from error
        except TimeoutError as error:
            detail = f"The body did not arrive within {READ_TIMEOUT_S:.0f} s."
            raise ProblemError(408, "body_timeout", detail) from error
        if size > limit:
            detail = f"The body is larger than the {limit} bytes that gateway.callback_max_bytes allows."
            raise ProblemError(413, "body_too_large", detail)
        return bytes(body)


def callback_routes(receiver: CallbackReceiver) -> APIRouter:
    router = APIRouter(tags=["callback"])
    body = {"content": {"application/json": {"schema": {"type": "object"}}}, "required": True}

    @router.post(
        "/callback/{token}",
        status_code=204,
        response_class=Response,
        responses=documented(400, 401, 404, 408, 413, 429),
        openapi_extra={"requestBody": body, "security": []},
    )
    async def callback(token: str, request: Request) -> Response:
        """Receive one result. Nvision posts results to the callback URL set in the Nvision portal."""
        await receiver.receive(token, request)
        return Response(status_code=204)

    return router


def posted_detections(detections: Iterable[dict[str, Any]]) -> tuple[PostedDetection, ...]:
    """Return the most confident detections of a result, but at most `MAX_DETECTIONS`."""
    found = sorted(detections, key=lambda each: each["confidence"], reverse=True)[:MAX_DETECTIONS]
    return tuple(
        PostedDetection(
            name=each["name"][:MAX_NAME_CHARACTERS],
            parent=str(each.get("parent") or "")[:MAX_NAME_CHARACTERS],
            confidence=float(each["confidence"]),
            box=(float(box["left"]), float(box["top"]), float(box["right"]), float(box["bottom"])),
        )
        for each in found
        for box in (each["bounding_box"],)
    )


def messages(frames: Iterable[AnsweredFrame]) -> Iterator[FramesAnswered]:
    """Yield messages that contain all frames in order. Each message fits into the pipe."""
    batch: list[AnsweredFrame] = []
    detections = 0
    for frame in frames:
        detections += len(frame.detections)
        if batch and (len(batch) >= MAX_FRAMES or detections > MAX_DETECTIONS):
            yield FramesAnswered(frames=tuple(batch))
            batch, detections = [], len(frame.detections)
        batch.append(frame)
    if batch:
        yield FramesAnswered(frames=tuple(batch))


def read_result(body: bytes) -> dict[str, Any]:
    """Return the result in a callback's body. Raises `ProblemError` if the body is not a result."""
    try:
        result = json.loads(body, parse_constant=_finite, parse_float=_finite)
        _check(result)
        result_events.encode(result)  # a lone surrogate is valid in JSON but cannot be encoded as UTF-8
    except (ValueError, OverflowError, RecursionError) as error:
        detail = str(error) if isinstance(error, _ShapeError) else "The body is not valid JSON."
        raise ProblemError(400, "result_invalid", detail) from error
    return result  # type: ignore[no-any-return] # _check has verified the type


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _ShapeError("A number is too large or not finite.")
    return value


def _check(result: Any) -> None:
    if not isinstance(result, dict) or not any(isinstance(result.get(key), list) for key in _DETECTIONS):
        raise _ShapeError("The body must be an object with a list named detected_objects or detected_faces.")
    for key in _TEXTS:
        if not isinstance(result.get(key, ""), str | None):
            raise _ShapeError(f"{key} must be a string.")
    for key in _DETECTIONS:
        detections = result.get(key)
        if not isinstance(detections, list | None):
            raise _ShapeError(f"{key} must be a list.")
        for index, detection in enumerate(detections or ()):
            if not _is_detection(detection):
                raise _ShapeError(
                    f"{key}[{index}] must be an object with name (a string), confidence (a number) and bounding_box. "
                    "The bounding_box must be an object with the numbers left, top, right and bottom."
                )


def _is_detection(detection: Any) -> bool:
    match detection:
        case {
            "name": str(),
            "confidence": confidence,
            "bounding_box": {"left": left, "top": top, "right": right, "bottom": bottom},
        }:
            numbers = (confidence, left, top, right, bottom)
            # A bool is not a number here.
            return all(type(number) in {int, float} and math.isfinite(number) for number in numbers)
    return False
