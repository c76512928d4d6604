"""Who may ask for what: every rule of access, and what a browser could be made to send."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from nvision_hub.config import Secret
from workers.gateway.access import Access
from workers.gateway.problems import ProblemError

LOCAL = Access(listen_host="127.0.0.1", loopback=True, token=None, open_paths=frozenset({"/", "/healthz"}))
GUARDED = Access(listen_host="10.0.0.9", loopback=False, token=Secret("right"), open_paths=frozenset({"/", "/healthz"}))
PROXIED = Access(
    listen_host="127.0.0.1", loopback=True, token=Secret("right"), hosts=("hub.example.com",), open_paths=frozenset()
)
CAMERAS = "/api/v1/cameras"


def judged(
    access: Access, *headers: tuple[str, str], path: str = CAMERAS, method: str = "GET", websocket: bool = False
) -> int:
    """The status of the refusal; 200 where there is none."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    try:
        access.judge(path=path, method=method, headers=Headers(raw=raw), websocket=websocket)
    except ProblemError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8080", "localhost:8080", "[::1]:8080", "LOCALHOST", "127.9.9.9"]
)
def test_names_of_this_machine(host: str) -> None:
    assert judged(LOCAL, ("host", host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "0.0.0.0",  # noqa: S104 - a name, which nothing binds
        "",
        "localhost@evil.example",
        "[::1",
        "evil.example#localhost",
        "localhost.",
        "[::ffff:10.0.0.1]",
    ],
)
def test_names_that_somebody_else_may_have_bound_to_this_machine(host: str) -> None:
    assert judged(LOCAL, ("host", host)) == 403
    assert judged(LOCAL, ("host", host), path="/") == 403
    assert judged(LOCAL, ("host", host), websocket=True) == 403


def test_no_host_and_two_hosts() -> None:
    assert judged(LOCAL) == 403
    assert judged(LOCAL, ("host", "localhost"), ("host", "evil.example")) == 403


def test_a_gateway_that_others_reach_has_any_name_and_a_token() -> None:
    assert judged(GUARDED, ("host", "hub.example.com")) == 401
    assert judged(GUARDED, ("host", "hub.example.com"), ("authorization", "Bearer right")) == 200


def test_a_proxys_names_for_it() -> None:
    authorization = ("authorization", "Bearer right")
    assert judged(PROXIED, ("host", "hub.example.com"), authorization) == 200
    assert judged(PROXIED, ("host", "evil.example.com"), authorization) == 403
    origin = ("origin", "https://hub.example.com")
    assert judged(PROXIED, ("host", "127.0.0.1:8080"), authorization, origin, method="POST") == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer wrong",
        "Bearer",
        "Bearer ",
        "Basic right",
        "right",
        "Bearer right right",
        "bearer righ",
        "Bearer Right",
        "Bearer r\u00efght",
    ],
)
def test_without_the_token_nothing_but_page_and_health(authorization: str | None) -> None:
    headers = [("host", "hub.example.com")]
    if authorization is not None:
        headers.append(("authorization", authorization))
    for path in (
        CAMERAS,
        "/metrics",
        "/api/openapi.json",
        "/nothing/there",
        "/api/../healthz",
        "//healthz",
        "/healthz/",
    ):
        assert judged(GUARDED, *headers, path=path) == 401, path
    assert judged(GUARDED, *headers, path="/") == 200
    assert judged(GUARDED, *headers, path="/healthz") == 200


def test_the_scheme_of_a_token_may_be_written_in_any_case() -> None:
    assert judged(GUARDED, ("host", "a"), ("authorization", "bearer  right ")) == 200


@pytest.mark.parametrize("origin", ["http://localhost:8080", "http://LOCALHOST:8080"])
def test_our_own_page_may_do_everything(origin: str) -> None:
    for method in ("POST", "PATCH", "DELETE", "PUT"):
        assert judged(LOCAL, ("host", "localhost:8080"), ("origin", origin), method=method) == 200
    assert judged(LOCAL, ("host", "localhost:8080"), ("origin", origin), websocket=True) == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost",
        "http://localhost:9090",
        "http://localhost:8080@evil.example",
        "",
        "file://",
        "chrome-extension://localhost:8080",
        "http://[::1",
        "http://localhost:8080 http://evil.example",
    ],
)
def test_another_sites_page_may_do_nothing(origin: str) -> None:
    headers = (("host", "localhost:8080"), ("origin", origin))
    for method in ("POST", "PATCH", "DELETE", "PUT", "UNHEARD"):
        assert judged(LOCAL, *headers, method=method) == 403
    assert judged(LOCAL, *headers, websocket=True) == 403
    assert judged(LOCAL, *headers) == 200  # it may not read the answer, since no header here lets it


def test_the_callback_has_a_token_of_its_own_and_any_name() -> None:
    assert judged(LOCAL, ("host", "hub.example.com"), path="/callback/x", method="POST") == 200
    assert judged(GUARDED, ("host", "a"), path="/callback/x", method="POST") == 200
    assert judged(GUARDED, ("host", "a"), path="/callback", method="POST") == 401


def test_a_viewers_token() -> None:
    assert LOCAL.opens(None)
    assert LOCAL.opens("anything")
    assert GUARDED.opens("right")
    for wrong in (None, "", "Right", 5, ["right"], {"right": 1}, b"right", "r\ud800"):
        assert not GUARDED.opens(wrong)
