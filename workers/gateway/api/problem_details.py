"""Errors of the API as RFC 9457 problem documents."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from workers.gateway.api.http_methods import allowed_methods

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE: Final = "application/problem+json"
_ROUTING: Final = {
    404: ("route_not_found", "No route has this address; GET /api/openapi.json lists all routes."),
    405: (
        "method_not_allowed",
        "This address does not support the method; the Allow header lists supported methods.",
    ),
}


class FieldError(BaseModel):
    """One invalid value of a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) that starts with /body, /query or /path")
    field: str = Field(description="Name of the parameter or of the field in the body, such as `nvision.service`")
    code: str = Field(description="Kind of error, such as `less_than_equal`")
    detail: str

    @classmethod
    def at(cls, part: str, path: Iterable[str | int], *, code: str, detail: str) -> FieldError:
        """Return the error for the value at `path` in a part of the request: "body", "query" or "path"."""
        keys = [str(key) for key in path]
        pointer = "".join(f"/{key.replace('~', '~0').replace('/', '~1')}" for key in (part, *keys))
        return cls(pointer=pointer, field=".".join(keys), code=code, detail=detail)


class ProblemDetails(BaseModel):
    """A problem document (RFC 9457). `type` is about:blank, so `title` is the reason phrase of the HTTP status."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="Stable name of the problem", examples=["camera_not_found"])
    detail: str
    errors: list[FieldError] | None = None


class ProblemError(Exception):
    """Error that the client receives as a problem document. `code` is a stable name of the problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: list[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.errors = errors
        self.headers = headers

    def response(self, more: Mapping[str, Any] | None = None) -> JSONResponse:
        """Return the problem document. `more` contains additional members."""
        document = ProblemDetails(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            code=self.code,
            detail=str(self),
            errors=self.errors or None,
        )
        content = {**document.model_dump(exclude_none=True), **(more or {})}
        return JSONResponse(content, self.status, headers=self.headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route, with a problem document for each status.

    The keys are the statuses as strings.
    """
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}}
    return {str(status): {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Convert every error of the application into a problem document."""
    for kind in (ProblemError, HTTPException, RequestValidationError, RedisError, Exception):
        app.add_exception_handler(kind, _on_error)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    match error:
        case ProblemError():
            problem = error
        case HTTPException():
            code, detail = _ROUTING.get(error.status_code, ("http_error", str(error.detail)))
            headers = dict(error.headers or {})
            if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                headers["Allow"] = allowed_methods(request.app.routes, request.scope)
            problem = ProblemError(error.status_code, code, detail, headers=headers)
        case RequestValidationError():
            problem = _invalid_request(error)
        case RedisError():
            problem = ProblemError(503, "redis_unreachable", "Redis does not reply; restore Redis to manage webhooks.")
        case _:
            problem = ProblemError(500, "internal_error", "The gateway failed; its log contains the cause.")
    return problem.response()


def _invalid_request(error: RequestValidationError) -> ProblemError:
    # The errors omit the input, because it may contain a camera's password.
    errors = [
        FieldError.at(str(found["loc"][0]), found["loc"][1:], code=found["type"], detail=found["msg"])
        for found in error.errors()
    ]
    if any(found.code == "json_invalid" for found in errors):
        return ProblemError(400, "json_invalid", "The body is not valid JSON.", errors=errors)
    return ProblemError(422, "request_invalid", "The request is not valid; see the list of errors.", errors=errors)
