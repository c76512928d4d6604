"""The REST door: one picture a request, JSON both ways, the key in the Authorization header."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from nvision_hub.wire import Configuration, NvisionRequest, WireError, answer_as_json, decode_base64
from workers.service.analysis import DetectionError, SourceKey
from workers.service.desk import MAX_MESSAGE_BYTES
from workers.service.pictures import PictureError

if TYPE_CHECKING:
    from starlette.requests import Request

    from nvision_hub.wire import Service
    from workers.service.desk import Desk

SCHEME: Final = "apikey"
MAX_BODY_BYTES: Final = MAX_MESSAGE_BYTES * 4 // 3 + 65_536  # as large a picture as on the stream, in base64

_log = logging.getLogger("nvision_hub.service")


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, counted_as: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.counted_as = counted_as
        self.headers = headers


async def predict(desk: Desk, service: Service, request: Request) -> JSONResponse:
    """Answer one request: 200 with the result, or 400, 401, 413, 429 or 500 with `{"message": ...}`."""
    try:
        return JSONResponse(await _answer(desk, service, request))
    except _RefusedError as refused:
        desk.refuse(refused.counted_as)
        return JSONResponse({"message": refused.message}, refused.status, headers=refused.headers)


async def _answer(desk: Desk, service: Service, request: Request) -> dict[str, Any]:
    key = _key(desk, request)
    over = desk.admission.take(key, time.monotonic())
    if over is not None:
        retry_after = {"retry-after": str(math.ceil(over.retry_after_s))}
        raise _RefusedError(429, "Too many requests.", "rate", retry_after)
    # Off the loop: a large picture's JSON takes long enough to hold up every stream.
    asked = await asyncio.to_thread(_read, await _body(request))
    # One that names no camera is known by where it comes from.
    client = request.client.host if request.client is not None else ""
    source = SourceKey(service=service, key=key, source=asked.source_id or f"rest {client}")
    answered: asyncio.Future[NvisionRequest] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            answered.set_result(await desk.result(source, asked))
        except (WireError, PictureError, DetectionError) as error:
            answered.set_exception(error)

    desk.undertake(work())  # to its end even if the client leaves; see Analysis.result
    try:
        return answer_as_json(await asyncio.shield(answered), service)
    except WireError as error:
        raise _RefusedError(400, f"{error}.", "option") from error
    except PictureError as error:
        raise _RefusedError(400, f"raw_data holds {error}.", "picture") from error
    except DetectionError as error:
        _log.warning("%s; the request is answered with 500.", error)
        raise _RefusedError(500, "The detector failed on this picture.", "detector") from error


def _key(desk: Desk, request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != SCHEME or not desk.admission.knows(key.strip()):
        raise _RefusedError(401, "The API key is missing, unknown or revoked.", "key")
    return key.strip()


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise _RefusedError(413, f"The body is larger than {MAX_BODY_BYTES:,} bytes.", "size")
    except ClientDisconnect as error:
        raise _RefusedError(400, "The body ended early.", "gone") from error
    return bytes(body)


def _read(body: bytes) -> NvisionRequest:
    """The request in a JSON body, as the message that the stream would carry."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(400, "The body is no JSON.", "message") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("raw_data"), str):
        raise _RefusedError(400, "The body must be an object with raw_data, a picture in base64.", "message")
    try:
        return NvisionRequest(
            source_id=fields.get("source_id") or "",
            frame_id=fields.get("frame_id") or "",
            raw_data=decode_base64(fields["raw_data"]),
            target_classes=fields.get("target_classes") or (),
            configurations=[
                Configuration(parameter=option["parameter"], value=option["value"])
                for option in fields.get("configurations") or ()
            ],
        )
    except WireError as error:
        raise _RefusedError(400, f"{error}.", "message") from error
    except (TypeError, KeyError, ValueError) as error:
        raise _RefusedError(
            400,
            "source_id and frame_id must be strings, target_classes a list of strings, and configurations a list of "
            '{"parameter": "...", "value": "..."} with strings.',
            "message",
        ) from error
