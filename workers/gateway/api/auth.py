"""Access control: tokens with roles, users of a declared proxy or of this machine, and the headers Host and Origin.

The gateway itself uses no cookies. A client of the control socket needs no token, because the kernel reports its user
id. For other clients, the policy also checks two headers that browsers send:

- Host: without this check, pages of a foreign site whose DNS name resolves to 127.0.0.1 could read all responses (DNS
  rebinding).
- Origin: without this check, pages of a foreign site could send requests without the user's consent, because a proxy
  may authenticate its users by cookies.

The audit log records each refused request and each request that changes something.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from nvision_hub.access.audit_log import AuditEntry
from nvision_hub.runtime.limited_protocols import PEER_UID
from workers.gateway.api.problem_details import ProblemError
from workers.gateway.auth.failure_limiter import Failure, FailureLimiter
from workers.gateway.auth.identity import LOCAL, Principal, TokenTable, TrustedProxy, local_user
from workers.gateway.auth.route_roles import CALLBACK, LIVE, SAFE_METHODS, RouteAccess, route_access

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from nvision_hub.access.audit_log import Outcome

log = logging.getLogger("nvision_hub.gateway")

_SECURITY_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_DEFAULT_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="nvision-hub"'}


class AccessError(ProblemError):
    """The request is refused. `principal` is the client if it is identified. `failure` describes a wrong token."""

    principal: Principal | None = None
    failure: Failure | None = None


@dataclass(kw_only=True)
class AuditFacts:
    """Facts that only the route knows, for the audit entry of the current request."""

    camera: str | None = None
    webhook: str | None = None
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class AccessPolicy:
    """Rules for access to the gateway."""

    listen_host: str
    loopback: bool  # whether only this machine can connect to the gateway directly
    tokens: TokenTable
    proxy: TrustedProxy = field(default_factory=lambda: TrustedProxy(settings=None))
    hosts: tuple[str, ...] = ()  # host names under which a proxy serves the gateway
    open_paths: AbstractSet[str] = frozenset()  # paths that need no token: health checks and page files
    audit: Callable[[AuditEntry], None] = lambda _entry: None
    clock: Callable[[], float] = time.monotonic
    wrong_tokens: FailureLimiter = field(default_factory=FailureLimiter)
    refusals: FailureLimiter = field(default_factory=FailureLimiter)  # limits only the number of audit entries

    def check(
        self,
        *,
        path: str,
        method: str,
        headers: Headers,
        peer: str | None = None,
        uid: int | None = None,
        websocket: bool = False,
    ) -> Principal | None:
        """Return the client; None if the path needs no token or authenticates its clients itself.

        `uid` is the user id of a client on the control socket; None for any other client. Raises `AccessError` if the
        request is not allowed.
        """
        access = route_access(method, path)
        try:
            if uid is not None:
                return _local_user(uid)
            return self._check(path, method, headers, peer, access, websocket=websocket)
        except AccessError as error:
            action = "live_view" if path == LIVE else access.action or f"{method} {path}"
            self._audit_refusal(error, action, self.proxy.client_address(peer, headers), access)
            raise

    def sign_in(self, *, token: object, headers: Headers, peer: str | None) -> Principal:
        """Return the client of a live view whose first message contains `token`. Raises `AccessError`."""
        access, address = RouteAccess(role="view"), self.proxy.client_address(peer, headers)
        try:
            principal = self._identify(token, headers, peer)
            _require(principal, access)
        except AccessError as error:
            self._audit_refusal(error, "live_view", address, access)
            raise
        self.audit(_entry("live_view", "done", principal, address, access))
        return principal

    def reject_callback(self, *, headers: Headers, peer: str | None) -> AccessError:
        """Return the error for a wrong token in a callback's address."""
        address = self.proxy.client_address(peer, headers)
        error = self._wrong_token(address, "The token in the callback's URL is wrong.")
        self._audit_refusal(error, "callback", address, RouteAccess(role="view"))
        return error

    def record(self, status: int, access: RouteAccess, facts: AuditFacts, scope: Scope, principal: Principal) -> None:
        """Add an audit entry for a request that was performed or that failed."""
        address = self.proxy.client_address(_peer(scope), Headers(scope=scope))
        outcome: Outcome = "done" if status < 400 else "failed"  # noqa: PLR2004 - the first status of an error
        found = RouteAccess(
            role=access.role,
            camera=access.camera or facts.camera,
            webhook=access.webhook or facts.webhook,
        )
        self.audit(_entry(access.action or "", outcome, principal, address, found, status=status, values=facts.values))

    def report_suppressed(self, *, at_end: bool = False) -> None:
        """Add one audit entry per client for all its refused attempts that have no entry of their own.

        Unless `at_end` is True, skip clients whose last entry is recent.
        """
        now = math.inf if at_end else self.clock()
        for limiter in (self.wrong_tokens, self.refusals):
            for address, count in limiter.pop_suppressed(now):
                self.audit(AuditEntry(action="refused_tries", outcome="refused", address=address, suppressed=count))

    def _check(
        self, path: str, method: str, headers: Headers, peer: str | None, access: RouteAccess, *, websocket: bool
    ) -> Principal | None:
        if path.startswith(CALLBACK):
            return None
        if self.loopback and not self._is_host_allowed(headers.getlist("host")):
            raise AccessError(
                403,
                "host_not_allowed",
                "The Host header must be a name of this machine; if a proxy serves the gateway, add the proxy's host "
                "name to gateway.hosts in cameras.yaml.",
            )
        if (websocket or method not in SAFE_METHODS) and not self._is_origin_allowed(headers):
            raise AccessError(403, "origin_not_allowed", "Pages of other sites may not send this request.")
        if websocket or path in self.open_paths:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        principal = self._identify(given.strip() if scheme.lower() == "bearer" else None, headers, peer)
        _require(principal, access)
        return principal

    def _identify(self, token: object, headers: Headers, peer: str | None) -> Principal:
        """Return the client. Raises `AccessError` if the client cannot be identified."""
        if (user := self.proxy.user(peer, headers)) is not None:
            return user
        is_private = self.loopback and not self.hosts and self.proxy.settings is None
        if is_private and not self.tokens.has_permanent():
            return LOCAL
        if token is None or token == "":
            raise AccessError(
                401,
                "token_required",
                "Send a token of the gateway in the header Authorization: Bearer <token>.",
                headers=_CHALLENGE,
            )
        if (found := self.tokens.find(token)) is None:
            raise self._wrong_token(self.proxy.client_address(peer, headers), "The gateway does not know this token.")
        return found

    def _wrong_token(self, address: str, detail: str) -> AccessError:
        failure = self.wrong_tokens.record(address, self.clock())
        if failure.retry_after_s is None:
            error = AccessError(401, "token_invalid", detail, headers=_CHALLENGE)
        else:
            detail = f"Too many wrong tokens from this address; try again in {failure.retry_after_s} s."
            error = AccessError(429, "too_many_failures", detail, headers={"retry-after": str(failure.retry_after_s)})
        error.failure = failure
        return error

    def _audit_refusal(self, error: AccessError, action: str, address: str, access: RouteAccess) -> None:
        is_wrong_token = error.failure is not None
        failure = error.failure or self.refusals.record(address, self.clock())
        if not failure.is_reported:
            return
        entry = _entry(action, "refused", error.principal, address, access)
        self.audit(replace(entry, status=error.status, code=error.code, suppressed=failure.suppressed))
        if is_wrong_token:
            more = f", and {failure.suppressed} more since the last line" if failure.suppressed else ""
            consequence = "" if failure.retry_after_s is None else "; the gateway responds with 429 to more of them"
            log.warning("access refused: wrong token from %s%s%s", address, more, consequence,
                        extra={"event": "access_refused"})  # fmt: skip

    def _is_host_allowed(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        try:
            name = urlsplit(f"//{hosts[0]}").hostname or ""
        except ValueError:
            return False
        try:
            return ipaddress.ip_address(name).is_loopback  # a numeric address, so DNS rebinding is impossible
        except ValueError:
            return name in {"localhost", self.listen_host, *self.hosts}

    def _is_origin_allowed(self, headers: Headers) -> bool:
        origins = headers.getlist("origin")
        if not origins:
            return True  # browsers add Origin to every request of this kind from a page of another site
        try:
            origin = urlsplit(origins[0])
        except ValueError:
            return False
        if len(origins) > 1 or origin.scheme not in {"http", "https"} or not origin.hostname:
            return False
        return origin.netloc.lower() == headers.get("host", "").lower() or origin.hostname in self.hosts


def _local_user(uid: int) -> Principal:
    """Return the client of the control socket. Raises `AccessError` if the user is not admitted."""
    principal = local_user(uid)
    if principal.role is None:
        detail = "Only root and the hub's own user may use the control socket; run the command as one of them."
        error = AccessError(403, "user_not_admitted", detail)
        error.principal = principal
        raise error
    return principal


def _require(principal: Principal, access: RouteAccess) -> None:
    """Raise `AccessError` if the client's role is too low."""
    if principal.may(access.role):
        return
    client = f"the user {principal.name}" if principal.kind == "proxy" else f"the token {principal.name}"
    role = "no role" if principal.role is None else f"the role {principal.role}"
    error = AccessError(403, "role_too_low", f"This requires the role {access.role}, but {client} has {role}.")
    error.principal = principal
    raise error


def _entry(
    action: str, outcome: Outcome, principal: Principal | None, address: str, access: RouteAccess, **more: Any
) -> AuditEntry:
    actor: dict[str, Any] = (
        {} if principal is None else {"actor": principal.name, "kind": principal.kind, "role": principal.role}
    )
    return AuditEntry(
        action=action, outcome=outcome, address=address, camera=access.camera, webhook=access.webhook, **actor, **more
    )


def _peer(scope: Scope) -> str | None:
    """Return the IP address of the peer, or the user id of a client on the control socket."""
    if (uid := _uid(scope)) is not None:
        return f"uid {uid}"
    client = scope.get("client")
    return None if client is None else str(client[0])


def _uid(scope: Scope) -> int | None:
    """Return the user id of a client on the control socket; None for any other client."""
    uid: int | None = scope.get("state", {}).get(PEER_UID)
    return uid


class AuthMiddleware:
    """ASGI middleware that enforces the access policy and adds security headers to every response."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500  # value if the application fails before it responds

        async def respond(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers.update(_SECURITY_HEADERS)
                for name, value in _DEFAULT_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        path, headers, websocket = scope["path"], Headers(scope=scope), scope["type"] == "websocket"
        method, peer, facts = scope.get("method", "GET"), _peer(scope), AuditFacts()
        try:
            principal = self._policy.check(
                path=path, method=method, headers=headers, peer=peer, uid=_uid(scope), websocket=websocket
            )
        except ProblemError as error:
            if websocket:
                await send({"type": "websocket.close", "code": 1008})  # the client receives HTTP 403
            else:
                await error.response()(scope, receive, respond)
            return
        access = route_access(method, path)
        scope.setdefault("state", {}).update(principal=principal, audit=facts)
        try:
            await self._app(scope, receive, respond)
        finally:
            if principal is not None and access.action is not None:
                self._policy.record(status, access, facts, scope, principal)
