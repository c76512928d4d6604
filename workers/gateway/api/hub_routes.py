"""Routes for health, metrics and the hub."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel
from redis.exceptions import RedisError
from starlette.responses import JSONResponse, Response

from workers.gateway.api.problem_details import ProblemError, documented
from workers.gateway.api.schemas import (
    HubSummary,
    SessionSummary,
    session_summary,
)
from workers.gateway.state.fleet_metrics import MEDIA_TYPE, FleetMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis.asyncio

    from nvision_hub.broker.client import RedisSettings
    from workers.gateway.state.fleet import FleetState

PING_INTERVAL_S: Final = 2.0
HEALTH: Final = ("/healthz", "/readyz")
_OPEN: Final = {"security": list[str]()}


class HealthResponse(BaseModel):
    """Response of a running gateway."""

    status: str = "ok"


class ReadinessResponse(BaseModel):
    """Readiness of the hub. `reasons` is empty if the hub is ready."""

    ready: bool
    reasons: list[str]


class BrokerAddress(BaseModel):
    """Complete address of the hub's Redis, with the password, and the prefix of the hub's keys and channels."""

    url: str
    prefix: str


class BrokerHealth:
    """Monitor of Redis. The caller starts `run` as a task. `up` is True while Redis replies to pings."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self.up = False

    async def run(self) -> None:
        while True:
            try:
                self.up = bool(await self._client.ping())
            except (RedisError, OSError):
                self.up = False
            await asyncio.sleep(PING_INTERVAL_S)


def health_routes(fleet: FleetState, broker: BrokerHealth) -> APIRouter:
    router = APIRouter()

    @router.get(HEALTH[0], tags=["health"], openapi_extra=_OPEN)
    async def alive() -> HealthResponse:
        """Return 200 while the gateway is running."""
        return HealthResponse()

    @router.get(
        HEALTH[1], tags=["health"], response_model=ReadinessResponse, responses=documented(503), openapi_extra=_OPEN
    )
    async def ready() -> Response:
        """Return 200 while Redis, the local service (if any) and at least one camera are ready, and 503 otherwise."""
        reasons = []  # do not name cameras, because clients can read the reasons without a token
        service, cameras = fleet.processes.get("service"), fleet.cameras()
        if not broker.up:
            reasons.append("Redis does not reply.")
        if service is not None and not service.status.ready:
            reasons.append("The local service is not ready.")
        if not any(process.status.ready for process in cameras):
            reasons.append("No camera is streaming." if cameras else "There are no cameras.")
        content = {"ready": not reasons, "reasons": reasons}
        return ProblemError(503, "not_ready", " ".join(reasons)).response(content) if reasons else JSONResponse(content)

    return router


def hub_routes(
    fleet: FleetState, broker: BrokerHealth, stream: RedisSettings, site: str, summary: Callable[[], HubSummary]
) -> APIRouter:
    router = APIRouter()
    metrics = FleetMetrics(fleet, site=site)

    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @router.get("/metrics", tags=["health"], response_class=Response, responses=text)
    async def expose() -> Response:
        """Return all metrics in the Prometheus text format."""
        return Response(metrics.text(broker_up=broker.up), headers={"content-type": MEDIA_TYPE})

    @router.get("/api/v1/session", tags=["fleet"])
    async def session(request: Request) -> SessionSummary:
        """Return the client's name and role."""
        return session_summary(request.state.principal)

    @router.get("/api/v1/hub", tags=["fleet"])
    async def hub() -> HubSummary:
        """Return the hub and its processes."""
        return summary()

    @router.get("/api/v1/broker", tags=["fleet"], responses=documented(403))
    async def address(request: Request) -> BrokerAddress:
        """Return the address of Redis with its password, to a client of the control socket only."""
        if request.state.principal.kind != "user":
            detail = "Only clients of the hub's control socket may read the address of Redis with its password."
            raise ProblemError(403, "control_socket_only", detail)
        return BrokerAddress(url=stream.url, prefix=stream.prefix)

    return router
