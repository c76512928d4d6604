"""The stream's door: one WebSocket, protobuf messages both ways, the streaming key as its subprotocol.

What is refused, and how the client learns of it (the documentation leaves all of this open):

    no subprotocol, or an unknown key       HTTP 401 to the handshake
    the key is over its rate                HTTP 429 with Retry-After to the handshake; 1013 on an open stream
    a text message                          close 1003
    bytes that are no Nvision message       close 1007
    a configuration out of range            close 1008, since it would be wrong again
    a message over 32 MiB                   close 1009
    a picture that cannot be opened         a result without detections: a camera's bad frame must not end its stream
    the service ends                        the results under way, then close 1001
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from nvision_hub.wire import WireError, answer_as_json, decode
from workers.service.analysis import DetectionError, SourceKey
from workers.service.desk import DRAIN_S
from workers.service.pictures import PictureError

if TYPE_CHECKING:
    from starlette.types import Message

    from nvision_hub.wire import NvisionRequest, Service
    from workers.service.desk import Desk

MOST_UNDER_WAY: Final = 64  # requests of one stream; beyond, it is not read until one is answered
MOST_UNDER_WAY_BYTES: Final = 64 * 1024 * 1024
SEND_S: Final = 20.0  # a client that takes nothing for so long is gone

GOING_AWAY: Final = 1001
UNSUPPORTED: Final = 1003
INVALID: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL: Final = 1011
TRY_LATER: Final = 1013

_log = logging.getLogger("nvision_hub.service")


async def stream(desk: Desk, service: Service, websocket: WebSocket) -> None:
    """Serve one client from its handshake to its end."""
    key = next((offered for offered in websocket.scope["subprotocols"] if desk.admission.knows(offered)), None)
    if key is None:
        desk.refuse("key")
        refusal = JSONResponse({"message": "The streaming key is missing, unknown or revoked."}, 401)
        await websocket.send_denial_response(refusal)
        return
    wait_s = desk.admission.wait_s(key, time.monotonic())
    if wait_s > 0:
        desk.refuse("rate")
        refusal = JSONResponse({"message": "Too many requests."}, 429, headers={"retry-after": str(math.ceil(wait_s))})
        await websocket.send_denial_response(refusal)
        return
    # The official clients fail a handshake that does not select the one subprotocol they offer.
    await websocket.accept(subprotocol=key)
    with desk.session():
        try:
            await _Session(desk, service, key, websocket).run()
        except WebSocketDisconnect as gone:
            if gone.code == TOO_BIG:
                desk.refuse("size")


class _Closed(Exception):  # noqa: N818 - the end that the protocol asks for; nothing failed in here
    """The stream is to be closed, with a code and a reason the client can read."""

    def __init__(self, code: int, reason: str, counted_as: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.counted_as = counted_as


class _Session:
    """One open stream: reads requests, and sends each result when it is there."""

    def __init__(self, desk: Desk, service: Service, key: str, websocket: WebSocket) -> None:
        self._desk = desk
        self._service = service
        self._key = key
        self._websocket = websocket
        self._under_way: dict[asyncio.Task[None], int] = {}  # and the bytes of each one's request
        self._closed: asyncio.Future[_Closed] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Until the client leaves, a message ends the stream, or the service does."""
        reading = asyncio.create_task(self._read())
        draining = asyncio.create_task(self._desk.draining.wait())
        ends: set[asyncio.Future[Any]] = {reading, draining, self._closed}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._closed.done():
                closed = self._closed.result()
            elif reading.done():
                closed = reading.result()
            else:
                closed = await self._finish()
        finally:
            reading.cancel()
            draining.cancel()
        if closed.counted_as:
            self._desk.refuse(closed.counted_as)
        if self._websocket.client_state is WebSocketState.CONNECTED:
            await self._websocket.close(closed.code, closed.reason)

    async def _finish(self) -> _Closed:
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=DRAIN_S)
        return _Closed(GOING_AWAY, "The service ends.")

    async def _read(self) -> _Closed:
        """Take requests until one ends the stream; how it ends. Raises `WebSocketDisconnect`."""
        while True:
            try:
                request, size = self._request(await self._websocket.receive())
            except _Closed as closed:
                return closed
            await self._room_for(size)
            task = self._desk.undertake(self._answer(request))
            self._under_way[task] = size
            task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours: the client must not wait for a result that will not come.
            _log.error("A request could not be answered.", exc_info=error)
            self._close(_Closed(INTERNAL, "The service failed on a request.", "defect"))

    def _request(self, message: Message) -> tuple[NvisionRequest, int]:
        if message["type"] == "websocket.disconnect":
            code = message.get("code")
            raise WebSocketDisconnect(code if isinstance(code, int) else 1005)
        data = message.get("bytes")
        if not isinstance(data, bytes):
            raise _Closed(UNSUPPORTED, "Messages are binary: one NvisionRequest each.", "text")
        if self._desk.admission.take(self._key, time.monotonic()) is not None:
            raise _Closed(TRY_LATER, "Too many requests.", "rate")
        try:
            return decode(data), len(data)
        except WireError as error:
            raise _Closed(INVALID, f"No NvisionRequest: {error}.", "message") from error

    async def _room_for(self, size: int) -> None:
        """Wait while too much is under way; meanwhile nothing is read, so the client's sends wait too."""
        while self._under_way and (
            len(self._under_way) >= MOST_UNDER_WAY or sum(self._under_way.values()) + size > MOST_UNDER_WAY_BYTES
        ):
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

    async def _answer(self, request: NvisionRequest) -> None:
        # Without an id of its own, the pictures of one connection are taken for one camera's.
        source = SourceKey(service=self._service, key=self._key, source=request.source_id or f"stream {id(self)}")
        began = time.monotonic()
        try:
            result = await self._desk.result(source, request)
        except PictureError as error:
            self._desk.refuse("picture")
            _log.debug("A stream sent %s.", error)
            await self._desk.delay(began)
            result = self._desk.empty(request, self._service)
        except WireError as error:
            self._close(_Closed(POLICY, f"{error}.", "option"))
            return
        except DetectionError as error:
            _log.warning("%s; the picture's stream is closed.", error)
            self._close(_Closed(INTERNAL, "The detector failed on a picture.", "detector"))
            return
        if self._desk.callbacks is not None:
            self._desk.callbacks.post(answer_as_json(result, self._service))
            return
        await self._send(result.SerializeToString())

    async def _send(self, data: bytes) -> None:
        if self._websocket.client_state is not WebSocketState.CONNECTED or self._closed.done():
            return
        try:
            async with asyncio.timeout(SEND_S):
                await self._websocket.send_bytes(data)
        except TimeoutError:
            self._close(_Closed(POLICY, "Results are not read.", "unread"))
        except (WebSocketDisconnect, RuntimeError):
            # Starlette raises the second where a close was sent first; either way nobody waits for this result.
            self._desk.refuse("gone")

    def _close(self, closed: _Closed) -> None:
        if not self._closed.done():
            self._closed.set_result(closed)
