"""REST API with one image per request, JSON in both directions, and the key in the Authorization header."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from nvision_hub.nvision.nvision_pb2 import Configuration, NvisionRequest
from nvision_hub.nvision.protocol import ProtocolError, decode_base64, response_json
from nvision_hub.runtime.connection_limits import client_of
from workers.local_service.detection_pool import SkippedError
from workers.local_service.handler import MAX_MESSAGE_BYTES, DetectionError, SourceKey
from workers.local_service.image_queue import ImageSender, QueueFullError
from workers.local_service.images import ImageError

if TYPE_CHECKING:
    from starlette.requests import Request

    from nvision_hub.config.value_types import ServiceName
    from workers.local_service.handler import RequestHandler

MAX_BODY_BYTES: Final = MAX_MESSAGE_BYTES * 4 // 3 + 65_536  # permits the same image size as the stream, in base64
OVERLOAD_RETRY_S: Final = 5  # processing a full queue takes about this long (`image_queue.MAX_IMAGES`)

_log = logging.getLogger("nvision_hub.service")


class _RequestRejectedError(Exception):
    """The service rejects this request with an error response."""

    def __init__(self, status: int, message: str, metric_reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = JSONResponse({"message": message}, status, headers=headers)
        self.metric_reason = metric_reason


async def predict(handler: RequestHandler, service: ServiceName, request: Request) -> JSONResponse:
    """Respond to one request: 200 with the result, or 400, 401, 413, 429, 500 or 503 with `{"message": ...}`."""
    try:
        return JSONResponse(await _respond(handler, service, request))
    except _RequestRejectedError as error:
        handler.count_refusal(error.metric_reason)
        return error.response


async def _respond(handler: RequestHandler, service: ServiceName, request: Request) -> dict[str, Any]:
    key = _key(handler, request)
    if wait_s := handler.limiter.acquire(key, time.monotonic()):
        raise _RequestRejectedError(429, "Too many requests.", "rate", {"retry-after": str(math.ceil(wait_s))})
    # Parse in a thread: the JSON of a large image takes long enough to parse that it would delay every stream.
    message = await asyncio.to_thread(_read, await _body(request))
    # If a request has no source id, the client address identifies its source.
    client = request.client.host if request.client is not None else ""
    source = SourceKey(service=service, key=key, source=message.source_id or f"rest {client}")
    sender = ImageSender(key=key, address=client_of(client), stream="rest")
    try:
        working = handler.start(handler.result(source, message, sender=sender))
        return response_json(await asyncio.shield(working), service)
    except ProtocolError as error:
        raise _RequestRejectedError(400, f"{error}.", "option") from error
    except ImageError as error:
        raise _RequestRejectedError(400, f"raw_data holds {error}.", "picture") from error
    except (SkippedError, QueueFullError) as error:
        headers = {"retry-after": str(OVERLOAD_RETRY_S)}
        raise _RequestRejectedError(503, "Too many images are waiting.", "overload", headers) from error
    except DetectionError as error:
        _log.warning("detector failed: %s; responding with status 500", error, extra={"event": "detection_failed"})
        raise _RequestRejectedError(500, "The detector failed on this image.", "detector") from error


def _key(handler: RequestHandler, request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "apikey" or not handler.limiter.is_accepted(key.strip()):
        raise _RequestRejectedError(401, "The API key is missing, unknown or revoked.", "key")
    return key.strip()


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise _RequestRejectedError(413, f"The body is larger than {MAX_BODY_BYTES:,} bytes.", "size")
    except ClientDisconnect as error:
        raise _RequestRejectedError(400, "The body ended early.", "gone") from error
    return bytes(body)


def _read(body: bytes) -> NvisionRequest:
    """Convert a JSON body to the message that a client would send over the stream."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _RequestRejectedError(400, "The body is not valid JSON.", "message") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("raw_data"), str):
        raise _RequestRejectedError(400, "The body must be an object whose raw_data is an image in base64.", "message")
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
    except ProtocolError as error:
        raise _RequestRejectedError(400, f"{error}.", "message") from error
    except (TypeError, KeyError, ValueError) as error:
        raise _RequestRejectedError(
            400,
            "source_id and frame_id must be strings, target_classes a list of strings, and configurations a list of "
            '{"parameter": "...", "value": "..."} with strings.',
            "message",
        ) from error
