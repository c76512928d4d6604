"""ASGI application of the gateway: routes, access control and the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI

from nvision_hub import __version__
from workers.gateway.api import problem_details
from workers.gateway.api.auth import AuthMiddleware
from workers.gateway.api.body_limit import BodyLimitMiddleware
from workers.gateway.api.http_methods import HeadMiddleware
from workers.gateway.api.problem_details import ProblemDetails, documented
from workers.gateway.auth.route_roles import LIVE, route_access

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import APIRouter
    from starlette.routing import Route
    from starlette.types import ASGIApp

    from workers.gateway.api.auth import AccessPolicy
    from workers.gateway.live.live_view import LiveView

OPENAPI: Final = "/api/openapi.json"


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, in which problem documents replace FastAPI's own error schemas."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document["components"]["schemas"]
            problem = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= {**problem.pop("$defs"), ProblemDetails.__name__: problem}
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, method, operation in (
                (path, method, operation)
                for path, item in document["paths"].items()
                for method, operation in item.items()
            ):
                responses = operation["responses"]
                if "422" in responses:
                    responses.update(documented(422))
                if "requestBody" in operation:
                    responses.update(documented(400, 408, 413))
                if "security" not in operation:
                    role = route_access(method.upper(), path).role
                    # A gateway that serves only its own machine requires no token unless a token exists.
                    operation["security"] = [{"token": [role]}, {}]
                    operation["x-required-role"] = role
                    description = operation.get("description", "")
                    operation["description"] = f"{description}\n\nRequires the role `{role}`.".strip()
                    responses.update(documented(401, 403, 429))
        return self.openapi_schema or {}


def application(routers: Iterable[APIRouter], files: Iterable[Route], live: LiveView, policy: AccessPolicy) -> ASGIApp:
    app = _Application(
        title="nvision-hub",
        version=__version__,
        summary="Monitor and control one nvision-hub. Errors are problem documents (RFC 9457).",
        openapi_url=OPENAPI,
        servers=[{"url": "/", "description": "The gateway that serves this document"}],
        docs_url=None,  # FastAPI's documentation pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in routers:
        app.include_router(router)

    app.add_api_websocket_route(LIVE, live.serve)
    app.router.routes.extend(files)
    problem_details.install(app)
    return AuthMiddleware(HeadMiddleware(BodyLimitMiddleware(app)), policy)


def health_application(router: APIRouter) -> ASGIApp:
    """Return an application that serves only health checks. It checks neither tokens nor the Host header."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(router)
    problem_details.install(app)
    return HeadMiddleware(app)
