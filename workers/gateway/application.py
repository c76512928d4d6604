"""The gateway as one ASGI application: routes behind their guard, and a description of them that needs no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, WebSocket
from fastapi.openapi.utils import get_openapi

from workers.gateway import api, page, problems
from workers.gateway.access import LIVE, Guard
from workers.gateway.problems import Problem, documented
from workers.gateway.webhook_routes import webhook_routes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp

    from workers.gateway.access import Access
    from workers.gateway.desk import Desk
    from workers.gateway.live import Live
    from workers.gateway.page import File

OPENAPI: Final = "/api/openapi.json"
HEALTH: Final = ("/healthz", "/readyz")
_REF: Final = "#/components/schemas/{model}"


def application(desk: Desk, live: Live, access: Access, files: Mapping[str, File]) -> ASGIApp:
    """Everything that is served."""
    app = FastAPI(
        title="nvision-hub",
        version=desk.version,
        openapi_url=OPENAPI,
        docs_url=None,  # both load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in (
        api.health_routes(desk),
        api.fleet_routes(desk),
        api.control_routes(desk),
        webhook_routes(desk),
        api.callback_routes(desk),
    ):
        app.include_router(router)

    @app.websocket(LIVE)
    async def look_on(socket: WebSocket) -> None:
        await live.serve(socket)

    app.router.routes.extend(page.routes(files))
    problems.install(app)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign] # as FastAPI's documentation has it
    return Guard(app, access)


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with problem documents where FastAPI would describe errors of its own."""
    if app.openapi_schema is None:
        described = get_openapi(
            title=app.title,
            version=app.version,
            summary="See and steer one nvision-hub. Errors are problem documents (RFC 9457).",
            routes=app.routes,
        )
        components = described.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template=_REF)
        schemas |= {**problem.pop("$defs"), Problem.__name__: problem}
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}, {}]
        broken, invalid, refused = (_texts(documented(*statuses)) for statuses in ((400,), (422,), (401, 403)))
        for path, operations in described["paths"].items():
            for operation in operations.values():
                responses = operation["responses"]
                if "422" in responses:
                    responses.update(invalid)
                if "requestBody" in operation:
                    responses.update(broken)
                if path in HEALTH:
                    operation["security"] = []
                elif "security" not in operation:
                    responses.update(refused)
        app.openapi_schema = described
    return app.openapi_schema


def _texts(responses: dict[int | str, dict[str, Any]]) -> dict[str, Any]:
    return {str(status): response for status, response in responses.items()}
