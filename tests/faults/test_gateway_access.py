"""Case 52: requests that abuse the API, from outside and from a browser. The gateway rejects each and keeps running."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any, Final

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.gateway import SupervisedGateway

pytestmark = pytest.mark.fault

TOKEN: Final = "canaryGatewayToken"  # used in this test only
GUARDED: Final = (
    ("GET", "/metrics"),
    ("GET", "/api/openapi.json"),
    ("GET", "/api/v1/hub"),
    ("GET", "/api/v1/cameras"),
    ("GET", "/api/v1/cameras/lobby"),
    ("GET", "/api/v1/cameras/lobby/history"),
    ("GET", "/api/v1/cameras/lobby/snapshot.jpg"),
    ("GET", "/api/v1/cameras/lobby/tuning"),
    ("POST", "/api/v1/cameras/lobby/pause"),
    ("POST", "/api/v1/cameras/lobby/restart"),
    ("PATCH", "/api/v1/cameras/lobby"),
    ("POST", "/api/v1/cameras"),
    ("DELETE", "/api/v1/cameras/lobby"),
    ("GET", "/api/v1/webhooks"),
    ("POST", "/api/v1/webhooks/replay"),
)
PATHS: Final = (
    "/../../../../etc/passwd",
    "/assets/../../gateway.py",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/..%2f..%2fetc/passwd",
    "//etc/passwd",
    "/assets/..\\..\\gateway.py",
    "/built-from",
    "/index.html",
    "/api/v1/cameras/../../../metrics",
    "/api/v1/cameras/%2e%2e%2f%2e%2e%2fmetrics",
    "/healthz/../metrics",
    "/%00",
)


def raw(one: SupervisedGateway, *lines: str, host: str | None = "127.0.0.1") -> int:
    """Send one request exactly as given, because an HTTP client would normalize it. Return the response's status."""
    address, port = one.url.removeprefix("http://").split(":")
    head = [*lines, *([f"host: {host}"] if host is not None else []), "connection: close", "", ""]
    with socket.create_connection((address, int(port)), timeout=30) as connection:
        connection.sendall("\r\n".join(head).encode("latin-1"))
        answer = b""
        # If a server rejects a request that it has not read completely, it resets the connection after its response.
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                answer += chunk
    assert b"root:" not in answer
    assert b"GatewaySettings" not in answer
    assert TOKEN.encode() not in answer
    return int(answer.split()[1])


def abuses() -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    """Yield each kind of abuse with its request and its Host header."""
    right = f"authorization: Bearer {TOKEN}"
    for method, path in GUARDED:
        line = f"{method} {path} HTTP/1.1"
        yield "no token", (line,), "127.0.0.1"
        yield "wrong token", (line, "authorization: Bearer wrong"), "127.0.0.1"
        yield "token in the address", (f"{method} {path}?token={TOKEN} HTTP/1.1",), "127.0.0.1"
        yield "token in a cookie", (line, f"cookie: token={TOKEN}"), "127.0.0.1"
        yield "foreign Host", (line, right), "evil.example"
        yield "foreign Host", (line, right), "127.0.0.1.evil.example:80"
        yield "no Host", (line, right), None
        if method != "GET":
            for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
                yield "foreign Origin", (line, right, f"origin: {origin}"), "127.0.0.1"
    for path in PATHS:
        yield "path", (f"GET {path} HTTP/1.1", right), "127.0.0.1"
    yield "foreign Host", ("GET / HTTP/1.1",), "evil.example"
    yield "foreign Host", ("GET http://evil.example/ HTTP/1.1",), "evil.example"
    yield "malformed request", ("\x16\x03\x01\x00",), None
    yield "malformed request", ("GET /",), "127.0.0.1"
    yield "malformed request", (f"GET /{'x' * 100_000} HTTP/1.1",), "127.0.0.1"


def test_abuse_is_rejected(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway(token=TOKEN)
    one.camera("lobby")
    seen: dict[str, dict[int, int]] = {}
    for kind, lines, host in abuses():
        status = raw(one, *lines, host=host)
        assert 400 <= status < 500, (kind, lines, status)
        found = seen.setdefault(kind, {})
        found[status] = found.get(status, 0) + 1
    for origin in (Origin("http://evil.example"), Origin("null")):
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(one.url.replace("http", "ws") + "/api/v1/live", origin=origin, proxy=None),
        ):
            pass
        assert refused.value.response.status_code == 403
    assert one.requests == [], "no rejected request has reached the supervisor"
    preflight = {"origin": "http://evil.example", "access-control-request-method": "DELETE"}
    with one.client(TOKEN) as client:
        answer = client.options("/api/v1/cameras/lobby", headers=preflight)
        assert "access-control-allow-origin" not in answer.headers
        assert client.get("/api/v1/cameras").status_code == 200
        assert client.get("/").status_code == 200
    outcomes = "; ".join(
        f"{kind} {', '.join(f'{status} ({count})' for status, count in sorted(found.items()))}"
        for kind, found in seen.items()
    )
    measured(
        52,
        "API abuse",
        injected=f"{sum(sum(found.values()) for found in seen.values())} raw requests: without the token, "
        "with a wrong one, foreign Host and Origin, ../, malformed requests; WebSockets from foreign pages",
        target="all rejected",
        measured=f"all rejected: {outcomes}",
    )


def test_an_api_without_a_token_serves_this_machine_only(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    one.camera("lobby")
    for host in ("evil.example", "169.254.169.254", "[::ffff:10.0.0.1]"):
        assert raw(one, "GET /api/v1/cameras HTTP/1.1", host=host) == 403
        assert raw(one, "DELETE /api/v1/cameras/lobby HTTP/1.1", host=host) == 403
    assert raw(one, "DELETE /api/v1/cameras/lobby HTTP/1.1", "origin: http://evil.example") == 403
    assert raw(one, "GET /api/v1/cameras HTTP/1.1") == 200
    assert one.requests == []


def test_a_form_of_a_foreign_page_has_no_effect(start_gateway: Callable[..., SupervisedGateway]) -> None:
    """A browser sends a form to another site without a preflight request. The Origin header names the form's site."""
    one = start_gateway()
    one.camera("lobby")
    entry: dict[str, Any] = {"id": "evil", "url": "rtsp://evil.example/"}
    with one.client() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            headers = {"content-type": kind, "origin": "http://evil.example"}
            answer = client.post("/api/v1/cameras", content=json.dumps(entry), headers=headers)
            assert answer.status_code == 403
            assert client.post("/api/v1/cameras/lobby/pause", headers=headers).status_code == 403
    assert one.requests == []
