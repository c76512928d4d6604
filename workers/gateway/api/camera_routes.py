"""Routes that read the state of cameras, and routes that control cameras while the hub runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from nvision_hub.config.models import RuntimeSettings
from nvision_hub.runtime.messages import AddCamera, PauseCamera, RemoveCamera, RestartProcess, ResumeCamera, SetCamera
from workers.gateway.api import schemas
from workers.gateway.api.problem_details import documented
from workers.gateway.live.frame_image import FrameSize  # noqa: TC001 - FastAPI reads the type at run time

if TYPE_CHECKING:
    from workers.gateway.api.control import FleetControl
    from workers.gateway.live.snapshots import SnapshotService

CameraId = Annotated[str, Path(description="The camera's id, as in cameras.yaml", examples=["lobby"])]
CONTROL_PROBLEMS: Final = documented(404, 409, 503)
_EXAMPLE: Final[dict[str, Any]] = {"id": "lobby", "url": "rtsp://10.0.0.5/stream1", "username": "viewer", "fps": 2}
# Without this schema, generated clients would omit the body.
_JPEG: Final[dict[str, Any]] = {
    "description": "A JPEG",
    "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
}


class CameraPatch(RuntimeSettings):
    """Settings to change while the camera runs. Omitted settings keep their values."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _reject_null(cls, value: object) -> object:
        """Reject null, which in cameras.yaml would mean an empty section."""
        if value is None:
            raise ValueError("must be an object")
        return value


class NewCamera(BaseModel):
    """A camera in the format of cameras.yaml: `id`, `url` and any other keys of a camera."""

    model_config = ConfigDict(extra="allow", strict=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,62}$")]
    url: Annotated[str, Field(min_length=1)]


def camera_routes(control: FleetControl, snapshots: SnapshotService) -> APIRouter:
    router = APIRouter(prefix="/api/v1/cameras", tags=["fleet"])

    @router.get("")
    async def cameras() -> schemas.CameraList:
        """Return all cameras, in the order of cameras.yaml."""
        return schemas.CameraList(cameras=schemas.camera_summaries(control.fleet))

    @router.get("/{camera_id}", responses=documented(404))
    async def camera(camera_id: CameraId) -> schemas.CameraDetail:
        """Return a camera with its current settings, its last errors and its metrics."""
        return schemas.camera_detail(control.fleet, control.camera(camera_id))

    @router.get("/{camera_id}/history", responses=documented(404))
    async def history(camera_id: CameraId) -> schemas.CameraHistory:
        """Return the history of a camera over the last half hour."""
        return schemas.camera_history(control.camera(camera_id))

    @router.get(
        "/{camera_id}/snapshot.jpg",
        response_class=Response,
        responses={200: _JPEG, **documented(404, 409, 501, 503)},
    )
    async def snapshot(
        camera_id: CameraId,
        *,
        boxes: Annotated[bool, Query(description="Draw the detections")] = False,
    ) -> Response:
        """Return the last frame that the camera sent to the service."""
        control.camera(camera_id)
        return Response(await snapshots.jpeg(camera_id, boxes=boxes), media_type="image/jpeg")

    @router.get("/{camera_id}/tuning", responses=CONTROL_PROBLEMS)
    async def tuning(
        camera_id: CameraId,
        fps: Annotated[float | None, Query(gt=0, le=60, allow_inf_nan=False)] = None,
        jpeg_quality: Annotated[int | None, Query(ge=1, le=100)] = None,
        max_width: Annotated[int | None, Query(ge=16, le=16384)] = None,
    ) -> FrameSize:
        """Use the camera's last frame to estimate the cost of other settings. Omitted settings keep their values."""
        settings = control.camera(camera_id).facts.settings
        return await snapshots.frame_size(
            camera_id,
            fps=settings.get("fps", 1.0) if fps is None else fps,
            quality=settings.get("jpeg_quality", 85) if jpeg_quality is None else jpeg_quality,
            max_width=max_width,
        )

    return router


def camera_control_routes(control: FleetControl) -> APIRouter:
    """Return the routes that control cameras. Each route responds after the supervisor has performed the request."""
    router = APIRouter(prefix="/api/v1/cameras", tags=["control"])

    def summary(camera_id: str) -> schemas.CameraSummary:
        return schemas.camera_summary(control.fleet, control.camera(camera_id))

    async def set_paused(camera_id: str, *, paused: bool) -> schemas.CameraSummary:
        control.camera(camera_id)
        await control.request(PauseCamera(camera=camera_id) if paused else ResumeCamera(camera=camera_id))
        await control.wait_until(lambda: summary(camera_id)["paused"] is paused)
        return summary(camera_id)

    @router.post("/{camera_id}/pause", status_code=202, responses=CONTROL_PROBLEMS)
    async def pause(camera_id: CameraId) -> schemas.CameraSummary:
        """Disconnect from a camera and send no frames until the camera is resumed, even after a restart of the hub."""
        return await set_paused(camera_id, paused=True)

    @router.post("/{camera_id}/resume", status_code=202, responses=CONTROL_PROBLEMS)
    async def resume(camera_id: CameraId) -> schemas.CameraSummary:
        """Resume a paused camera."""
        return await set_paused(camera_id, paused=False)

    @router.post("/{camera_id}/restart", status_code=202, responses=CONTROL_PROBLEMS)
    async def restart(camera_id: CameraId) -> schemas.CameraSummary:
        """Restart a camera's process."""
        await control.request(RestartProcess(target=control.camera(camera_id).name))
        return summary(camera_id)

    @router.patch("/{camera_id}", responses=CONTROL_PROBLEMS)
    async def tune(
        camera_id: CameraId, values: Annotated[CameraPatch, Body()], request: Request
    ) -> schemas.CameraSummary:
        """Change settings of a camera while it runs. The changes remain in effect after a restart of the hub."""
        control.camera(camera_id)
        request.state.audit.values = given = values.given()
        await control.request(SetCamera(camera=camera_id, values=given), rejected_status=422)
        await control.wait_until(lambda: _has_settings(control, camera_id, given))
        return summary(camera_id)

    @router.post("", status_code=201, responses=documented(409, 503))
    async def add(camera: Annotated[NewCamera, Body()], request: Request, response: Response) -> schemas.CameraSummary:
        """Add a camera without interrupting the others.

        It inherits `defaults` of cameras.yaml, but inherits the user name and password only if `gateway.camera_hosts`
        lists its host. `nvision.url` is not allowed.
        """
        request.state.audit.camera = camera.id
        rejected_status = 422 if control.fleet.camera(camera.id) is None else 409
        await control.request(AddCamera(entry=camera.model_dump()), rejected_status=rejected_status)
        await control.wait_until(lambda: control.fleet.camera(camera.id) is not None)
        response.headers["location"] = f"{request.url.path}/{camera.id}"
        return summary(camera.id)

    @router.delete("/{camera_id}", status_code=204, response_class=Response, responses=CONTROL_PROBLEMS)
    async def remove(camera_id: CameraId) -> Response:
        """Remove a camera without interrupting the others."""
        control.camera(camera_id)
        await control.request(RemoveCamera(camera=camera_id))
        await control.wait_until(lambda: control.fleet.camera(camera_id) is None)
        return Response(status_code=204)

    return router


def _has_settings(control: FleetControl, camera_id: str, values: dict[str, Any]) -> bool:
    process = control.fleet.camera(camera_id)
    settings = process.facts.settings if process is not None else {}
    current = {**settings, "confidence_threshold": settings.get("nvision", {}).get("confidence_threshold")}
    return all(current.get(name) == value for name, value in values.items())
