"""Errors as RFC 9457 problem documents, whoever found them. Knows no route."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE: Final = "application/problem+json"
_UNPROCESSABLE: Final = 422
_DETAILS: Final = {
    404: "Nothing is served at this address; GET /api/openapi.json tells what is.",
    405: "This address does not take that method; the Allow header tells which it takes.",
}


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request: body, query or path")
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457); `type` is about:blank, so `title` is that of the status."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None


class ProblemError(Exception):
    """A request that cannot be done, as its caller is told."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def problem(
    status: int,
    detail: str,
    *,
    errors: list[Fault] | None = None,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """The document as a response; `more` are members of its own."""
    document = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors)
    content = {**document.model_dump(exclude_none=True), **(more or {})}
    return JSONResponse(content, status, headers=headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the problems that it may answer with."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Have every error of an application answered so."""
    app.add_exception_handler(ProblemError, _told)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unforeseen)


async def _told(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)  # noqa: S101 - registered for this class
    return problem(error.status, error.detail, headers=error.headers)


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    return problem(error.status_code, _DETAILS.get(error.status_code, str(error.detail)), headers=error.headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    faults = [
        # Without the input, in which a camera's password may stand.
        Fault(pointer="".join(f"/{_escaped(part)}" for part in found["loc"]), detail=found["msg"])
        for found in error.errors()
    ]
    broken = any(found["type"] == "json_invalid" for found in error.errors())
    return problem(
        400 if broken else _UNPROCESSABLE,
        "The body is no JSON." if broken else "The request does not fit what this address takes; see errors.",
        errors=faults,
    )


async def _unforeseen(_request: Request, _error: Exception) -> JSONResponse:
    return problem(500, "The gateway failed at this; its log says why.")


def _escaped(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
