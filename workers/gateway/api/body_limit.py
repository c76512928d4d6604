"""Limits on the size and duration of request bodies. The callback endpoint has its own limits."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from workers.gateway.api.problem_details import ProblemError
from workers.gateway.auth.route_roles import CALLBACK

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES: Final = 2**20
READ_TIMEOUT_S: Final = 30.0
# If a body is too large, the gateway still reads up to this many bytes before it responds. A client reads the response
# only after it has sent the whole body.
MAX_DISCARDED_BYTES: Final = 2**26


class BodyLimitMiddleware:
    """ASGI middleware that responds with a problem document if a request body is too large or too slow."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CALLBACK):
            await self._app(scope, receive, send)
            return
        body = _LimitedBody(receive, Headers(scope=scope).get("content-length", ""))

        async def respond(message: Message) -> None:
            if body.problem is None:
                await send(message)

        # For the application, a rejected body ends early. The middleware does not send the application's response.
        try:
            await self._app(scope, body.receive, respond)
        except ClientDisconnect:
            if body.problem is None:
                raise
        if body.problem is not None:
            await body.discard()
            await body.problem.response()(scope, receive, send)


class _LimitedBody:
    """Body of one request. `problem` is the reason why the body was rejected; None if it was not."""

    def __init__(self, receive: Receive, declared: str) -> None:
        self._receive = receive
        self._declared_bytes = int(declared) if declared.isascii() and declared.isdigit() else 0
        self._received_bytes = 0
        self._complete = False
        self._deadline = asyncio.get_running_loop().time() + READ_TIMEOUT_S
        self.problem: ProblemError | None = None

    async def receive(self) -> Message:
        """Return the next message. If the body is rejected, return the message of a disconnected client."""
        if self.problem is None and not self._complete:
            try:
                message = await self._next()
            except TimeoutError:
                detail = f"The body did not arrive within {READ_TIMEOUT_S:.0f} s."
                self.problem = ProblemError(408, "body_timeout", detail, headers={"connection": "close"})
            else:
                if max(self._declared_bytes, self._received_bytes) <= MAX_BODY_BYTES:
                    return message
                detail = f"The body is larger than {MAX_BODY_BYTES} bytes."
                self.problem = ProblemError(413, "body_too_large", detail, headers={"connection": "close"})
        if self.problem is not None:
            return {"type": "http.disconnect"}
        return await self._receive()

    async def discard(self) -> None:
        """Read the rest of a rejected body within the limits on size and time."""
        with contextlib.suppress(TimeoutError):
            while not self._complete and self._received_bytes <= MAX_DISCARDED_BYTES:
                await self._next()

    async def _next(self) -> Message:
        async with asyncio.timeout_at(self._deadline):
            message = await self._receive()
        self._received_bytes += len(message.get("body", b""))
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message
