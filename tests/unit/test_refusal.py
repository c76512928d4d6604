"""What follows from each way in which the service can say no."""

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

from workers.camera.refusal import (
    FINAL_RETRY_S,
    RETRY_AFTER_MAX_S,
    TRY_AGAIN_LATER_S,
    Refusal,
    classify,
    unusable_answer,
)

WHERE = "wss://nvision.example/api/v1/object-detection"
NOW = 1_800_000_000.0


def by_status(status: int, **headers: str) -> Refusal:
    answer = Response(status, "", Headers(**{name.replace("_", "-"): value for name, value in headers.items()}))
    return classify(InvalidStatus(answer), WHERE, now=NOW)


def by_code(code: int | None) -> Refusal:
    received = None if code is None else Close(code, "words that may hold anything")
    kind = ConnectionClosedOK if code == 1000 else ConnectionClosedError
    return classify(kind(received, received, None if received is None else True), WHERE, now=NOW)


@pytest.mark.parametrize("echoed", [True, False])
@pytest.mark.parametrize(
    ("code", "reason", "answer"),
    [
        (1011, "timeout", None),  # the library's keepalive
        (1009, "bad_answer", "too_large"),
        (1007, "bad_answer", "unreadable"),
        (1002, "bad_answer", None),
    ],
)
def test_what_we_end_ourselves(code: int, reason: str, answer: str | None, echoed: bool) -> None:  # noqa: FBT001
    ours = Close(code, "")
    error = ConnectionClosedError(ours if echoed else None, ours, False if echoed else None)
    assert classify(error, WHERE, now=NOW).reason == reason
    assert unusable_answer(error) == answer


def test_the_services_own_word_about_size_is_no_answer_of_its() -> None:
    theirs = Close(1009, "")
    assert unusable_answer(ConnectionClosedError(theirs, theirs, rcvd_then_sent=True)) is None


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
def test_http_answers(status: int, reason: str, final: bool) -> None:  # noqa: FBT001 - a table's column
    refusal = by_status(status)
    assert (refusal.reason, refusal.final) == (reason, final)
    assert refusal.wait_s == (FINAL_RETRY_S if final else None)
    assert WHERE in refusal.sentence


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("86400", RETRY_AFTER_MAX_S),
        ("9" * 400, RETRY_AFTER_MAX_S),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        (formatdate(NOW + 1e6, usegmt=True), RETRY_AFTER_MAX_S),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("Sun, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(status: int, value: str, wait_s: float | None) -> None:
    assert by_status(status, Retry_After=value).wait_s == wait_s


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
def test_close_codes(code: int | None, reason: str, wait_s: float | None, final: bool) -> None:  # noqa: FBT001
    refusal = by_code(code)
    assert (refusal.reason, refusal.wait_s, refusal.final) == (reason, wait_s, final)
    assert "words that may hold anything" not in refusal.sentence


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
def test_everything_else(error: Exception, reason: str, final: bool) -> None:  # noqa: FBT001
    refusal = classify(error, WHERE, now=NOW)
    assert (refusal.reason, refusal.final) == (reason, final)
    assert refusal.sentence.startswith((WHERE, "nobody", "the proxy"))
