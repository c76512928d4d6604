"""The access policy: every rule, and requests that another site's page can make a browser send."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.datastructures import Headers

from nvision_hub.access.tokens import AccessToken, token_digest
from workers.gateway.api.auth import AccessError, AccessPolicy
from workers.gateway.api.problem_details import ProblemError
from workers.gateway.auth.failure_limiter import FailureLimiter
from workers.gateway.auth.identity import TokenTable

RIGHT = TokenTable([AccessToken(name="ops", role="admin", digest=token_digest("right"))])
OPEN = frozenset({"/", "/healthz"})
LOCAL = AccessPolicy(listen_host="127.0.0.1", loopback=True, tokens=TokenTable(), open_paths=OPEN)
GUARDED = AccessPolicy(listen_host="10.0.0.9", loopback=False, tokens=RIGHT, open_paths=OPEN)
PROXIED = AccessPolicy(listen_host="127.0.0.1", loopback=True, tokens=RIGHT, hosts=("hub.example.com",))
CAMERAS = "/api/v1/cameras"


def status_of(
    access: AccessPolicy, *headers: tuple[str, str], path: str = CAMERAS, method: str = "GET", websocket: bool = False
) -> int:
    """Return the status of the rejection; 200 if the request is allowed."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    try:
        # A new limiter, so that the wrong tokens of one test do not throttle the next test.
        replace(access, wrong_tokens=FailureLimiter()).check(
            path=path, method=method, headers=Headers(raw=raw), websocket=websocket
        )
    except ProblemError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8080", "localhost:8080", "[::1]:8080", "LOCALHOST", "127.9.9.9"]
)
def test_host_names_of_this_machine_are_accepted(host: str) -> None:
    assert status_of(LOCAL, ("host", host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "0.0.0.0",  # noqa: S104 - a Host header, not an address to bind
        "",
        "localhost@evil.example",
        "[::1",
        "evil.example#localhost",
        "localhost.",
        "[::ffff:10.0.0.1]",
    ],
)
def test_foreign_host_names_are_rejected(host: str) -> None:
    assert status_of(LOCAL, ("host", host)) == 403
    assert status_of(LOCAL, ("host", host), path="/") == 403
    assert status_of(LOCAL, ("host", host), websocket=True) == 403


def test_a_request_without_exactly_one_host_header_is_rejected() -> None:
    assert status_of(LOCAL) == 403
    assert status_of(LOCAL, ("host", "localhost"), ("host", "evil.example")) == 403


def test_a_public_gateway_accepts_any_host_name_with_a_token() -> None:
    assert status_of(GUARDED, ("host", "hub.example.com")) == 401
    assert status_of(GUARDED, ("host", "hub.example.com"), ("authorization", "Bearer right")) == 200


def test_host_names_of_a_proxy_are_accepted() -> None:
    authorization = ("authorization", "Bearer right")
    assert status_of(PROXIED, ("host", "hub.example.com"), authorization) == 200
    assert status_of(PROXIED, ("host", "evil.example.com"), authorization) == 403
    origin = ("origin", "https://hub.example.com")
    assert status_of(PROXIED, ("host", "127.0.0.1:8080"), authorization, origin, method="POST") == 200


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
def test_only_page_and_health_are_open_without_a_token(authorization: str | None) -> None:
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
        assert status_of(GUARDED, *headers, path=path) == 401, path
    assert status_of(GUARDED, *headers, path="/") == 200
    assert status_of(GUARDED, *headers, path="/healthz") == 200


def test_the_authorization_scheme_is_case_insensitive() -> None:
    assert status_of(GUARDED, ("host", "a"), ("authorization", "bearer  right ")) == 200


@pytest.mark.parametrize("origin", ["http://localhost:8080", "http://LOCALHOST:8080"])
def test_requests_of_our_own_page_are_accepted(origin: str) -> None:
    for method in ("POST", "PATCH", "DELETE", "PUT"):
        assert status_of(LOCAL, ("host", "localhost:8080"), ("origin", origin), method=method) == 200
    assert status_of(LOCAL, ("host", "localhost:8080"), ("origin", origin), websocket=True) == 200


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
def test_pages_of_other_sites_are_rejected(origin: str) -> None:
    headers = (("host", "localhost:8080"), ("origin", origin))
    for method in ("POST", "PATCH", "DELETE", "PUT", "UNHEARD"):
        assert status_of(LOCAL, *headers, method=method) == 403
    assert status_of(LOCAL, *headers, websocket=True) == 403
    assert status_of(LOCAL, *headers) == 200  # another site's page cannot read the response: no header allows it


def test_the_callback_has_a_separate_token_and_accepts_any_host_name() -> None:
    assert status_of(LOCAL, ("host", "hub.example.com"), path="/callback/x", method="POST") == 200
    assert status_of(GUARDED, ("host", "a"), path="/callback/x", method="POST") == 200
    assert status_of(GUARDED, ("host", "a"), path="/callback", method="POST") == 401


def test_a_viewers_token_must_equal_the_configured_one() -> None:
    def is_accepted(access: AccessPolicy, token: object) -> bool:
        try:
            access.sign_in(token=token, headers=Headers(), peer="127.0.0.1")
        except AccessError as error:
            return error.status not in {401, 429}
        return True

    assert is_accepted(LOCAL, None)
    assert is_accepted(LOCAL, "anything")
    assert is_accepted(GUARDED, "right")
    for wrong in (None, "", "Right", 5, ["right"], {"right": 1}, b"right", "r\ud800"):
        assert not is_accepted(GUARDED, wrong)
