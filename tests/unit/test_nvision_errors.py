"""Classification of every way in which a connection to the service can fail."""

from __future__ import annotations

import ssl
from email.utils import formatdate

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
    ProxyError,
)
from websockets.frames import Close
from websockets.http11 import Response

from nvision_hub.nvision.errors import (
    FINAL_RETRY_S,
    MAX_RETRY_AFTER_S,
    TRY_AGAIN_LATER_S,
    ConnectionFailure,
    classify,
    unusable_result,
)

URL = "wss://nvision.example/api/v1/object-detection"
NOW = 1_800_000_000.0


def by_status(status: int, **headers: str) -> ConnectionFailure:
    response = Response(status, "", Headers(**{name.replace("_", "-"): value for name, value in headers.items()}))
    return classify(InvalidStatus(response), URL, now=NOW)


def by_code(code: int | None) -> ConnectionFailure:
    received = None if code is None else Close(code, "untrusted text")
    kind = ConnectionClosedOK if code == 1000 else ConnectionClosedError
    return classify(kind(received, received, None if received is None else True), URL, now=NOW)


@pytest.mark.parametrize("echoed", [True, False])
@pytest.mark.parametrize(
    ("code", "reason", "lost_result"),
    [
        (1011, "timeout", None),  # the library's keepalive sends this code
        (1009, "bad_answer", "too_large"),
        (1007, "bad_answer", "unreadable"),
        (1002, "bad_answer", None),
    ],
)
def test_close_codes_that_the_hub_sends_have_a_reason(
    code: int,
    reason: str,
    lost_result: str | None,
    echoed: bool,  # noqa: FBT001 - a table's column
) -> None:
    ours = Close(code, "")
    error = ConnectionClosedError(ours if echoed else None, ours, False if echoed else None)
    assert classify(error, URL, now=NOW).reason == reason
    assert unusable_result(error) == lost_result


def test_a_close_code_from_the_service_loses_no_result() -> None:
    close = Close(1009, "")
    assert unusable_result(ConnectionClosedError(close, close, rcvd_then_sent=True)) is None


@pytest.mark.parametrize(
    ("status", "reason", "final"),
    [
        (401, "key_refused", True),
        (403, "key_refused", True),
        (404, "not_found", True),
        (301, "redirect", True),
        (308, "redirect", True),
        (429, "http_429", False),
        (503, "http_503", False),
        (500, "http_500", False),
        (502, "http_502", False),
        (200, "http_200", False),
        (418, "http_418", False),
    ],
)
def test_each_http_status_has_its_reason(status: int, reason: str, final: bool) -> None:  # noqa: FBT001 - a table's column
    failure = by_status(status)
    assert (failure.reason, failure.final) == (reason, final)
    assert failure.wait_s == (FINAL_RETRY_S if final else None)
    assert URL in failure.message


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("86400", MAX_RETRY_AFTER_S),
        ("9" * 400, MAX_RETRY_AFTER_S),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        (formatdate(NOW + 1e6, usegmt=True), MAX_RETRY_AFTER_S),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("Sun, 99 Foo 2026 99:99:99 GMT", None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read_and_bounded(status: int, value: str, wait_s: float | None) -> None:
    assert by_status(status, Retry_After=value).wait_s == wait_s


def test_the_first_of_two_retry_after_headers_counts() -> None:
    response = Response(503, "", Headers([("Retry-After", "7"), ("Retry-After", "soon")]))
    assert classify(InvalidStatus(response), URL, now=NOW).wait_s == 7.0


@pytest.mark.parametrize(
    ("code", "reason", "wait_s", "final"),
    [
        (1008, "key_refused", FINAL_RETRY_S, True),
        (1013, "try_later", TRY_AGAIN_LATER_S, False),
        (1009, "too_large", TRY_AGAIN_LATER_S, False),
        (1000, "closed_1000", None, False),
        (1001, "closed_1001", None, False),
        (1011, "closed_1011", None, False),
        (1012, "closed_1012", None, False),
        (4000, "closed_4000", None, False),
        (None, "lost", None, False),
    ],
)
def test_each_close_code_has_its_reason(code: int | None, reason: str, wait_s: float | None, final: bool) -> None:  # noqa: FBT001
    failure = by_code(code)
    assert (failure.reason, failure.wait_s, failure.final) == (reason, wait_s, final)
    assert "untrusted text" not in failure.message


@pytest.mark.parametrize(
    ("error", "reason", "final"),
    [
        (ssl.SSLCertVerificationError(1, "self-signed"), "certificate", True),
        (ssl.SSLError(1, "wrong version number"), "tls", False),
        (TimeoutError(), "timeout", False),
        (ConnectionRefusedError(111, "refused"), "refused", False),
        (ConnectionResetError(104, "reset"), "network", False),
        (OSError(113, "no route"), "network", False),
        (InvalidURI("ws:", "no host"), "protocol", False),
        (InvalidMessage("not HTTP"), "protocol", False),
        (ProxyError("not allowed"), "proxy", False),
        (InvalidProxy("what", "no address"), "proxy", False),
        (ImportError("python-socks"), "proxy", False),
        (NegotiationError("no subprotocol"), "protocol", False),
    ],
)
def test_each_error_of_a_connection_has_its_reason(error: Exception, reason: str, final: bool) -> None:  # noqa: FBT001
    failure = classify(error, URL, now=NOW)
    assert (failure.reason, failure.final) == (reason, final)
    assert failure.message.startswith((URL, "connection refused", "the proxy"))
