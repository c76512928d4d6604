"""WebSocket stream: protobuf messages in both directions, with the streaming key as subprotocol.

Nvision's documentation does not specify how a service reports errors. This service reports them as follows:

    no subprotocol, or an unknown key       HTTP 401 to the handshake
    the key exceeds its rate limit          HTTP 429 with Retry-After to the handshake; 1013 on an open stream
    a text message                          close 1003
    not an Nvision message                  close 1007
    a configuration out of range            close 1008, because a retry would fail, too
    a message over 32 MiB                   close 1009
    an unreadable image                     a result without detections, because a bad frame must not end the stream
    the service is too slow                 a notice for each image that a newer one of its source replaces, if the
                                            client accepts notices (`nvision/skipping.py`); otherwise, images wait
    too many images of all clients wait     a notice, as above; 1013 for other clients. This affects the client with
                                            the most waiting images, or with the most bytes, and of its streams the
                                            one with the most
    the service stops                       the pending results, then close 1001
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from websockets.frames import CloseCode

from nvision_hub.nvision import skipping
from nvision_hub.nvision.protocol import ProtocolError, decode, response_json
from nvision_hub.runtime.connection_limits import client_of
from workers.local_service.detection_pool import SkippedError
from workers.local_service.handler import STREAM_DRAIN_TIMEOUT_S, DetectionError, SourceKey
from workers.local_service.image_queue import ImageSender, QueueFullError
from workers.local_service.images import ImageError
from workers.local_service.responses import result_message

if TYPE_CHECKING:
    from starlette.types import Message

    from nvision_hub.config.value_types import ServiceName
    from nvision_hub.nvision.nvision_pb2 import NvisionRequest
    from workers.local_service.handler import RequestHandler

# Requests of one stream; at this limit, the session stops reading until one request is answered.
MAX_PENDING: Final = 64
MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
SEND_TIMEOUT_S: Final = 20.0  # maximum time to send one result; after that, the service closes the stream

_log = logging.getLogger("nvision_hub.service")


async def stream(handler: RequestHandler, service: ServiceName, websocket: WebSocket) -> None:
    """Serve one client from handshake to close."""
    key = next((offered for offered in websocket.scope["subprotocols"] if handler.limiter.is_accepted(offered)), None)
    if key is None:
        handler.count_refusal("key")
        message = "The streaming key is missing, unknown or revoked."
        await websocket.send_denial_response(JSONResponse({"message": message}, 401))
        return
    if wait_s := handler.limiter.acquire(key, time.monotonic(), count=0):
        handler.count_refusal("rate")
        headers = {"retry-after": str(math.ceil(wait_s))}
        await websocket.send_denial_response(JSONResponse({"message": "Too many requests."}, 429, headers))
        return
    # The official clients offer only one subprotocol, and reject a handshake that does not select it.
    await websocket.accept(subprotocol=key)
    with handler.session():
        try:
            await _StreamSession(handler, service, key, websocket).run()
        except WebSocketDisconnect as gone:
            if gone.code == CloseCode.MESSAGE_TOO_BIG:
                handler.count_refusal("size")
        except _CloseStream as closed:
            if closed.metric_reason:
                handler.count_refusal(closed.metric_reason)
            if websocket.client_state is WebSocketState.CONNECTED:
                await websocket.close(closed.code, closed.reason)


class _CloseStream(Exception):  # noqa: N818 - not an error in the service
    """The service must close the stream with this code and reason."""

    def __init__(self, code: int, reason: str, metric_reason: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.metric_reason = metric_reason


class _StreamSession:
    """One open stream, which reads requests and sends results as they complete."""

    def __init__(self, handler: RequestHandler, service: ServiceName, key: str, websocket: WebSocket) -> None:
        self._handler = handler
        self._service = service
        self._key = key
        self._websocket = websocket
        address = websocket.client.host if websocket.client is not None else ""
        self._sender = ImageSender(key=key, address=client_of(address), stream=f"stream {id(self)}")
        # A callback cannot carry a notice, because its receiver has not asked for notices.
        self._accepts_notices = handler.callbacks is None and skipping.accepts_notices(websocket.headers)
        self._pending: dict[asyncio.Task[None], int] = {}  # task -> size of its request in bytes
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Run until the stream ends. Raises `_CloseStream`, or `WebSocketDisconnect` if the client ends the stream."""
        ends = {asyncio.create_task(self._read()), asyncio.create_task(self._drain()), self._closed}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            if self._handler.callbacks is None:  # without callbacks, no receiver exists for the pending results
                for task in self._pending:
                    task.cancel()
        for error in [end.exception() for end in done]:
            if error is not None:
                raise error

    async def _drain(self) -> None:
        await self._handler.draining.wait()
        if self._pending:
            await asyncio.wait(self._pending, timeout=STREAM_DRAIN_TIMEOUT_S)
        raise _CloseStream(CloseCode.GOING_AWAY, "The service is stopping.")

    async def _read(self) -> None:
        while True:
            request, size = self._request(await self._websocket.receive())
            # While too much is pending, stop reading to apply backpressure to the client.
            while self._pending and (
                len(self._pending) >= MAX_PENDING or sum(self._pending.values()) + size > MAX_PENDING_BYTES
            ):
                await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            task = self._handler.start(self._respond(request))
            self._pending[task] = size
            task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._pending[task]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, _CloseStream):
            # Close the stream. Otherwise, the client would wait for the result indefinitely.
            _log.error(
                "request failed: bug in the service; closing the stream",
                exc_info=error,
                extra={"event": "request_failed"},
            )
            error = _CloseStream(CloseCode.INTERNAL_ERROR, "The service failed on a request.", "defect")
        if error is not None and not self._closed.done():
            self._closed.set_exception(error)

    def _request(self, message: Message) -> tuple[NvisionRequest, int]:
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        data = message.get("bytes")
        if not isinstance(data, bytes):
            raise _CloseStream(CloseCode.UNSUPPORTED_DATA, "Send each NvisionRequest as a binary message.", "text")
        if self._handler.limiter.acquire(self._key, time.monotonic()):
            raise _CloseStream(CloseCode.TRY_AGAIN_LATER, "Too many requests.", "rate")
        try:
            return decode(data), len(data)
        except ProtocolError as error:
            raise _CloseStream(CloseCode.INVALID_DATA, f"Invalid message: {error}.", "message") from error

    async def _respond(self, request: NvisionRequest) -> None:
        # All requests without a source id on one connection belong to the same source.
        source = SourceKey(service=self._service, key=self._key, source=request.source_id or self._sender.stream)
        started_at = time.monotonic()
        try:
            result = await self._handler.result(
                source, request, sender=self._sender, is_replaceable=self._accepts_notices
            )
        except (SkippedError, QueueFullError) as error:
            if not self._accepts_notices:
                raise _CloseStream(CloseCode.TRY_AGAIN_LATER, "Too many images are waiting.", "overload") from error
            self._handler.count_refusal("skipped")
            result = skipping.notice(request, self._handler.service_id)
        except ImageError as error:
            self._handler.count_refusal("picture")
            _log.debug("client sent %s; responding with an empty result", error)
            await self._handler.delay(started_at)
            result = result_message(request, self._service, self._handler.service_id)
        except ProtocolError as error:
            raise _CloseStream(CloseCode.POLICY_VIOLATION, f"{error}.", "option") from error
        except DetectionError as error:
            _log.warning("detector failed: %s; closing the stream", error, extra={"event": "detection_failed"})
            raise _CloseStream(CloseCode.INTERNAL_ERROR, "The detector failed on an image.", "detector") from error
        if self._handler.callbacks is not None:
            self._handler.callbacks.post(response_json(result, self._service))
        elif self._websocket.client_state is WebSocketState.CONNECTED and not self._closed.done():
            await self._send(result.SerializeToString())

    async def _send(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._websocket.send_bytes(data)
        except TimeoutError as error:
            raise _CloseStream(CloseCode.POLICY_VIOLATION, "The client does not read the results.", "unread") from error
        except (WebSocketDisconnect, RuntimeError):
            # The client has disconnected, or the service has closed the stream (in which case Starlette raises
            # RuntimeError).
            self._handler.count_refusal("gone")
