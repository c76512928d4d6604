"""HEAD requests, and the Allow header of status 405 responses (RFC 9110, 9.3.2 and 15.5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.routing import Match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


class HeadMiddleware:
    """ASGI middleware that handles HEAD like GET. FastAPI would respond with 405.

    Probes such as `wget --spider` send HEAD. The HTTP server omits the body, because the original scope still says
    HEAD.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def allowed_methods(routes: Sequence[BaseRoute], scope: Scope) -> str:
    """Return the value of the Allow header: the methods that the routes support at the path of `scope`.

    Starlette lists only the methods of the first matching route.
    """
    found = [
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return ", ".join(["GET", "HEAD", *found[1:]] if "GET" in found else found)
