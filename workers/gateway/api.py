"""The API's routes: what they take, what they answer, and which of the gateway's parts does it. They decide nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import JSONResponse, Response

from nvision_hub.config import RunTimeSettings
from workers.gateway import health, shown
from workers.gateway.fleet import CAMERA
from workers.gateway.metrics import MEDIA_TYPE
from workers.gateway.problems import documented, problem

if TYPE_CHECKING:
    from workers.gateway.desk import Desk

CameraId = Annotated[str, Path(description="The camera's id, as in cameras.yaml", examples=["lobby"])]
CONTROLLED: Final = documented(404, 409, 503)
_EXAMPLE: Final[dict[str, Any]] = {"id": "lobby", "url": "rtsp://10.0.0.5/stream1", "username": "viewer", "fps": 2}
_JPEG: Final[dict[str, Any]] = {"description": "A JPEG", "content": {"image/jpeg": {}}}


class Tuning(RunTimeSettings):
    """Settings to change while the camera runs; those left out stay as they are."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _something(cls, value: object) -> object:
        """In cameras.yaml a section without lines is an empty one; here nothing is nothing."""
        if value is None:
            raise ValueError("must be an object")
        return value


class NewCamera(BaseModel):
    """One camera, as an entry of cameras.yaml has it; any of its keys may stand beside these two."""

    model_config = ConfigDict(extra="allow", strict=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,62}$")]
    url: Annotated[str, Field(min_length=1)]


class Alive(BaseModel):
    """The process answers."""

    status: str = "ok"


class Ready(BaseModel):
    """Whether the hub does its job, and the reasons where it does not."""

    ready: bool
    reasons: list[str]


class Size(BaseModel):
    """What a camera would cost with these settings, measured on its last picture."""

    bytes_per_picture: int
    bytes_per_hour: int
    images_per_day: int
    width: int
    height: int


def health_routes(desk: Desk) -> APIRouter:
    """For whoever keeps the hub alive, and for Prometheus."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def alive() -> Alive:
        """Whether the gateway's process answers."""
        return Alive()

    @router.get("/readyz", response_model=Ready, responses=documented(503))
    async def ready() -> Response:
        """Whether broker, local service and at least one camera do their job."""
        reasons = health.reasons(desk.fleet, broker_up=desk.broker.up)
        if reasons:
            return problem(503, " ".join(reasons), more={"ready": False, "reasons": reasons})
        return JSONResponse({"ready": True, "reasons": []})

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Everything that is counted, as Prometheus reads it."""
        return Response(desk.metrics(), headers={"content-type": MEDIA_TYPE})

    return router


def fleet_routes(desk: Desk) -> APIRouter:
    """What there is to see."""
    router = APIRouter(prefix="/api/v1", tags=["fleet"])

    @router.get("/hub")
    async def hub() -> shown.Hub:
        """The hub and its processes."""
        return desk.hub()

    @router.get("/cameras")
    async def cameras() -> shown.Cameras:
        """All cameras, in the order of their file."""
        return shown.Cameras(cameras=shown.cameras(desk.fleet))

    @router.get("/cameras/{camera_id}", responses=documented(404))
    async def camera(camera_id: CameraId) -> shown.CameraDetail:
        """One camera, with its settings in force, its last errors and everything that it counts."""
        return shown.detail(desk.fleet, desk.camera(camera_id))

    @router.get("/cameras/{camera_id}/history", responses=documented(404))
    async def history(camera_id: CameraId) -> shown.History:
        """Its last half an hour."""
        return shown.history(desk.camera(camera_id), time.time())

    @router.get(
        "/cameras/{camera_id}/snapshot.jpg",
        response_class=Response,
        responses={200: _JPEG, **documented(404, 409, 501, 503)},
    )
    async def snapshot(
        camera_id: CameraId,
        *,
        boxes: Annotated[bool, Query(description="Draw what was detected in it")] = False,
    ) -> Response:
        """The last picture sent."""
        desk.camera(camera_id)
        return Response(await desk.snapshots.jpeg(camera_id, boxes=boxes), media_type="image/jpeg")

    @router.get("/cameras/{camera_id}/tuning", responses=CONTROLLED)
    async def tuning(
        camera_id: CameraId,
        fps: Annotated[float | None, Query(gt=0, le=60, allow_inf_nan=False)] = None,
        jpeg_quality: Annotated[int | None, Query(ge=1, le=100)] = None,
        max_width: Annotated[int | None, Query(ge=16, le=16384)] = None,
    ) -> Size:
        """What it would cost with other settings: its last picture, encoded again. What is left out is as it is now."""
        settings = desk.camera(camera_id).account.facts.get("camera", {})
        rate = fps if fps is not None else float(settings.get("fps", 1))
        quality = jpeg_quality if jpeg_quality is not None else int(settings.get("jpeg_quality", 85))
        cost = await desk.snapshots.cost(camera_id, quality=quality, max_width=max_width)
        return Size(
            bytes_per_picture=cost.jpeg_bytes,
            bytes_per_hour=cost.per_hour(rate),
            images_per_day=cost.images_per_day(rate),
            width=cost.width,
            height=cost.height,
        )

    return router


def control_routes(desk: Desk) -> APIRouter:
    """What there is to do. Each is asked of the supervisor, and answered once it is done."""
    router = APIRouter(prefix="/api/v1/cameras", tags=["control"])

    @router.post("/{camera_id}/pause", status_code=202, responses=CONTROLLED)
    async def pause(camera_id: CameraId) -> shown.Camera:
        """Send nothing more, and let go of the camera, until it is resumed; a restart of the hub changes nothing."""
        return await _paused(desk, camera_id, "pause")

    @router.post("/{camera_id}/resume", status_code=202, responses=CONTROLLED)
    async def resume(camera_id: CameraId) -> shown.Camera:
        """Go on after a pause."""
        return await _paused(desk, camera_id, "resume")

    @router.post("/{camera_id}/restart", status_code=202, responses=CONTROLLED)
    async def restart(camera_id: CameraId) -> shown.Camera:
        """End its process, and start another."""
        desk.camera(camera_id)
        await desk.ask("restart", target=CAMERA + camera_id)
        return shown.camera(desk.fleet, desk.camera(camera_id))

    @router.patch("/{camera_id}", responses=CONTROLLED)
    async def tune(camera_id: CameraId, values: Annotated[Tuning, Body()]) -> shown.Camera:
        """Change settings while it runs; they stay so, also when the hub is started again, until they are changed."""
        desk.camera(camera_id)
        given = values.given()
        await desk.ask("set", refused_with=422, camera=camera_id, values=given)
        await desk.seen(lambda: _has(desk, camera_id, given))
        return shown.camera(desk.fleet, desk.camera(camera_id))

    @router.post("", status_code=201, responses=documented(409, 503))
    async def add(camera: Annotated[NewCamera, Body()], request: Request, response: Response) -> shown.Camera:
        """Add a camera; the others do not notice."""
        known = desk.fleet.camera(camera.id) is not None
        await desk.ask("add", refused_with=409 if known else 422, camera=camera.model_dump())
        await desk.seen(lambda: desk.fleet.camera(camera.id) is not None)
        response.headers["location"] = f"{request.url.path}/{camera.id}"
        return shown.camera(desk.fleet, desk.camera(camera.id))

    @router.delete("/{camera_id}", status_code=204, response_class=Response, responses=CONTROLLED)
    async def remove(camera_id: CameraId) -> Response:
        """Remove a camera; the others do not notice."""
        desk.camera(camera_id)
        await desk.ask("remove", camera=camera_id)
        await desk.seen(lambda: desk.fleet.camera(camera_id) is None)
        return Response(status_code=204)

    return router


def callback_routes(desk: Desk) -> APIRouter:
    """For the Nvision service."""
    router = APIRouter(tags=["callback"])
    body = {"content": {"application/json": {"schema": {"type": "object"}}}, "required": True}

    @router.post(
        "/callback/{token}",
        status_code=204,
        response_class=Response,
        responses=documented(400, 401, 404, 408, 413),
        openapi_extra={"requestBody": body, "security": []},
    )
    async def callback(token: str, request: Request) -> Response:
        """One result, as Nvision posts it to the callback URL that is set in its portal."""
        await desk.callback.receive(token, request)
        return Response(status_code=204)

    return router


async def _paused(desk: Desk, camera_id: str, verb: str) -> shown.Camera:
    desk.camera(camera_id)
    await desk.ask(verb, camera=camera_id)

    def done() -> bool:
        member = desk.fleet.camera(camera_id)
        facts = member.account.facts if member is not None else {}
        return bool(facts.get("run_time", {}).get("paused")) is (verb == "pause")

    await desk.seen(done)
    return shown.camera(desk.fleet, desk.camera(camera_id))


def _has(desk: Desk, camera_id: str, values: dict[str, Any]) -> bool:
    member = desk.fleet.camera(camera_id)
    settings = member.account.facts.get("camera", {}) if member is not None else {}
    now = {**settings, "confidence_threshold": settings.get("nvision", {}).get("confidence_threshold")}
    return all(now.get(name) == value for name, value in values.items())
