"""Who may ask for what: token, Host and Origin. Knows addresses, methods and headers, and nothing of what is behind.

There are no cookies, so nothing speaks for a user but what a caller puts into its request itself. What a browser adds
on its own is judged all the same: the Host header, since a name that somebody else's DNS has bound to 127.0.0.1 makes
this machine part of a foreign site; and the Origin, since a foreign site may post without asking.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from nvision_hub.config import Secret
from workers.gateway.problems import ProblemError, problem

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CALLBACK: Final = "/callback/"  # has a token of its own, in its path, and is posted to by machines under any name
LIVE: Final = "/api/v1/live"  # takes the token in its first message: a browser cannot add a header to a WebSocket
_ALWAYS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_UNLESS_SAID: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """The rules. `open_paths` need no token: the page, which asks its user for it, and the health checks."""

    listen_host: str
    loopback: bool  # whether nobody but this machine reaches it, at least not directly
    token: Secret | None
    hosts: tuple[str, ...] = ()  # names under which a proxy serves it
    open_paths: AbstractSet[str] = frozenset()

    def judge(self, *, path: str, method: str, headers: Headers, websocket: bool = False) -> None:
        """Raise `ProblemError` for a request that may not be made."""
        if path.startswith(CALLBACK):
            return
        if self.loopback and not self._may_name(headers.getlist("host")):
            raise ProblemError(
                403,
                "This gateway answers on this machine only, under its own names; a proxy's name for it belongs into "
                "gateway.hosts of cameras.yaml.",
            )
        if (websocket or method not in SAFE_METHODS) and not self._may_come_from(headers):
            raise ProblemError(403, "Another site's page may not do this.")
        if not websocket and path not in self.open_paths and not self._has_token(headers):
            raise ProblemError(
                401,
                "This needs the gateway's token: Authorization: Bearer <token>.",
                headers={"www-authenticate": 'Bearer realm="nvision-hub"'},
            )

    def opens(self, token: object) -> bool:
        """Whether a token, as a live viewer sends it, is right; compared in constant time."""
        return self.token is None or (isinstance(token, str) and Secret(token) == self.token)

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return self.opens(given.strip() if scheme.lower() == "bearer" else None)

    def _may_name(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        name = _name(hosts[0])
        try:
            return ipaddress.ip_address(name).is_loopback  # an address is no name, and cannot be bound to another
        except ValueError:
            return name in {"localhost", self.listen_host, *self.hosts}

    def _may_come_from(self, headers: Headers) -> bool:
        origins = headers.getlist("origin")
        if not origins:
            return True  # not a browser, or not a foreign page
        try:
            origin = urlsplit(origins[0])
            known = origin.scheme in {"http", "https"} and bool(origin.hostname)
        except ValueError:
            return False
        if len(origins) > 1 or not known:
            return False
        return origin.netloc.lower() == headers.get("host", "").lower() or origin.hostname in self.hosts


class Guard:
    """An application behind its rules; adds what browsers should heed to each answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        answering = send if scope["type"] == "websocket" else _with_headers(send)
        try:
            self._access.judge(
                path=scope["path"],
                method=scope.get("method", "GET"),
                headers=Headers(scope=scope),
                websocket=scope["type"] == "websocket",
            )
        except ProblemError as refused:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP 403
                return
            await problem(refused.status, refused.detail, headers=refused.headers)(scope, receive, answering)
            return
        await self._app(scope, receive, answering)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers.update(_ALWAYS)
            for name, value in _UNLESS_SAID.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


def _name(host: str) -> str:
    """The name in a Host header, without its port; "" for what is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
