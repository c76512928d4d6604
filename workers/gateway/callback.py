"""The callback endpoint: results that Nvision posts because a callback URL is set in its portal.

Each becomes an event like any other and goes the same way to Redis. The worker that sent the picture is told that its
answer has come, in batches, so that its account of pictures balances.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect

from nvision_hub import events
from nvision_hub.events import Origin
from workers.gateway.fleet import CAMERA
from workers.gateway.problems import ProblemError

if TYPE_CHECKING:
    from starlette.requests import Request

    from nvision_hub.broker import Publisher
    from nvision_hub.config import Secret
    from nvision_hub.status import Meter
    from workers.gateway.asks import Asks
    from workers.gateway.fleet import Fleet

UNKNOWN: Final = "unknown"
READ_WITHIN_S: Final = 30.0
TOLD_EVERY_S: Final = 1.0
TOLD_AT_ONCE: Final = 500  # frames, of one camera: a record must fit the pipe
DISCARDED_MOST: Final = 4  # times the limit: so much of a body too large is read, so that its sender hears why
NAME_CHARACTERS: Final = 64
NAMES_SHOWN: Final = 20
_DETECTIONS: Final = ("detected_objects", "detected_faces")
_SIDES: Final = ("left", "top", "right", "bottom")
_TEXTS: Final = ("service_id", "source_id", "frame_id")


class _ShapeError(ValueError):
    """JSON that is no result."""


@dataclass(frozen=True, kw_only=True)
class CallbackSettings:
    """`token` None: there is no such endpoint."""

    token: Secret | None
    max_bytes: int
    site: str


class Callback:
    """The endpoint. `run` is its task."""

    def __init__(
        self, settings: CallbackSettings, *, fleet: Fleet, publisher: Publisher, meter: Meter, asks: Asks
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._publisher = publisher
        self._meter = meter
        self._asks = asks
        self._answered: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)  # by camera
        self._arrived = asyncio.Event()

    async def receive(self, token: str, request: Request) -> None:
        """Take one result. Raises `ProblemError`; the body of a caller without the token is not looked at."""
        if self._settings.token is None:
            raise ProblemError(404, "No callback endpoint is set up; gateway.callback_token in cameras.yaml does that.")
        if type(self._settings.token)(token) != self._settings.token:
            raise ProblemError(401, "The token in the callback's address is wrong.")
        result = read_result(await self._body(request))
        self._take(result, time.time(), time.monotonic())

    async def run(self) -> None:
        """Tell the cameras which of their pictures were answered, at most once a second, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            await asyncio.sleep(TOLD_EVERY_S)
            told, self._answered = self._answered, defaultdict(list)
            for camera, frames in told.items():
                for start in range(0, len(frames), TOLD_AT_ONCE):
                    self._asks.pass_on(CAMERA + camera, "answered", frames=frames[start : start + TOLD_AT_ONCE])

    def _take(self, result: dict[str, Any], now: float, now_mono: float) -> None:
        origin = self._origin(result.get("source_id") or "")
        event = events.callback_event(result, origin, received_at=now)
        names = [
            found["name"][:NAME_CHARACTERS] for found in (*event["detected_objects"], *event.get("detected_faces", ()))
        ]
        self._meter.count("results_received_total", camera=origin.camera)
        for name in names:
            self._meter.count("detections_total", camera=origin.camera, name=name)
        self._publisher.publish(origin.camera, event)
        member = self._fleet.camera(origin.camera)
        if member is not None:
            member.result_at, member.result_names = now, names[:NAMES_SHOWN]
            if event["hub"]["id"] == event["frame_id"]:
                self._answered[origin.camera].append((event["frame_id"], now_mono))
                self._arrived.set()

    def _origin(self, source_id: str) -> Origin:
        """The camera of that id; `unknown` where there is none."""
        member = self._fleet.camera(source_id)
        if member is None:
            return Origin(site=self._settings.site, camera=UNKNOWN, labels={}, service=None)
        settings = member.account.facts.get("camera", {})
        return Origin(
            site=self._settings.site,
            camera=source_id,
            labels=settings.get("labels", {}),
            service=settings.get("nvision", {}).get("service"),
        )

    async def _body(self, request: Request) -> bytes:
        limit = self._settings.max_bytes
        body, size = bytearray(), 0
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= limit:
                        body += chunk
                    elif size > DISCARDED_MOST * limit:
                        break
        except ClientDisconnect as error:
            raise ProblemError(400, "The body ended early.") from error
        except TimeoutError as error:
            raise ProblemError(408, f"The body did not arrive within {READ_WITHIN_S:.0f} s.") from error
        if size > limit:
            raise ProblemError(413, f"The body is larger than {limit} bytes, gateway.callback_max_bytes.")
        return bytes(body)


def read_result(body: bytes) -> dict[str, Any]:
    """The result in a callback's body. Raises `ProblemError` for anything else."""
    try:
        result = json.loads(body, parse_constant=_refuse, parse_float=_finite)
        _check(result)
        events.encode(result)  # a text with half a surrogate pair is JSON, and no UTF-8
    except (ValueError, OverflowError, RecursionError) as error:
        sentence = str(error) if isinstance(error, _ShapeError) else "The body is no JSON."
        raise ProblemError(400, sentence) from error
    return result  # type: ignore[no-any-return] # checked


def _refuse(name: str) -> None:
    raise _ShapeError(f"{name} is no JSON.")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _ShapeError("A number is too large.")
    return value


def _check(result: Any) -> None:
    if not isinstance(result, dict) or not any(isinstance(result.get(key), list) for key in _DETECTIONS):
        raise _ShapeError("The body must be an object with detected_objects or detected_faces, a list.")
    for key in _TEXTS:
        if not isinstance(result.get(key, ""), str | None):
            raise _ShapeError(f"{key} must be a text.")
    for key in _DETECTIONS:
        detections = result.get(key)
        if not isinstance(detections, list | None):
            raise _ShapeError(f"{key} must be a list.")
        for place, detection in enumerate(detections or ()):
            if not _well(detection):
                raise _ShapeError(
                    f"{key}[{place}] must be an object with name, a text; confidence, a number; and bounding_box with "
                    "left, top, right and bottom, numbers."
                )


def _well(detection: Any) -> bool:
    if not isinstance(detection, dict):
        return False
    box = detection.get("bounding_box")
    return (
        isinstance(detection.get("name"), str)
        and _number(detection.get("confidence"))
        and isinstance(box, dict)
        and all(_number(box.get(side)) for side in _SIDES)
    )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
