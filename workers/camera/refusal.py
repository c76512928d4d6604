"""Why a connection to Nvision was refused or ended, and what follows: one pure function.

websockets' own verdicts are not ours: it takes a bad certificate for a passing fault (`SSLError` is an `OSError`) and
429 for a final one.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.frames import CloseCode

# An account that is put right should be noticed without a restart, and ten minutes bother nobody.
FINAL_RETRY_S: Final = 600.0
RETRY_AFTER_MAX_S: Final = 3600.0
TRY_AGAIN_LATER_S: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """`reason` labels metrics; `wait_s` is the least wait before the next try, None where the backoff decides."""

    reason: str
    sentence: str
    wait_s: float | None = None
    final: bool = False  # nothing changes until somebody mends it


def classify(error: BaseException, where: str, *, now: float) -> Refusal:
    """What `error`, met at the address `where`, means. `now` is in seconds since the epoch, for Retry-After dates."""
    match error:
        case InvalidStatus():
            return _by_status(error, where, now)
        case ConnectionClosed():
            return _by_close_code(error, where)
        case ssl.SSLCertVerificationError():
            return Refusal(
                reason="certificate",
                sentence=f"{where} has a certificate that this machine does not trust; correct nvision.url, "
                "or install the authority's certificate",
                wait_s=FINAL_RETRY_S,
                final=True,
            )
        case ssl.SSLError():
            return Refusal(reason="tls", sentence=f"{where} does not speak TLS as it should; check nvision.url")
        case ImportError():  # of the library that websockets wants for these alone
            return Refusal(
                reason="proxy",
                sentence=f"{where} would have to be reached through a SOCKS proxy, which needs `pip install "
                "python-socks`; or set an HTTP proxy in this machine's environment",
                wait_s=FINAL_RETRY_S,
            )
        case ProxyError() | InvalidProxy():
            return Refusal(
                reason="proxy",
                sentence=f"the proxy in this machine's environment does not let us through to {where}; correct "
                "https_proxy, or name the host in no_proxy",
            )
        case InvalidURI() | InvalidHandshake():
            return Refusal(reason="protocol", sentence=f"{where} does not speak WebSocket; correct nvision.url")
        case TimeoutError():
            return Refusal(reason="timeout", sentence=f"{where} does not answer")
        case ConnectionRefusedError():
            return Refusal(reason="refused", sentence=f"nobody listens at {where}; check nvision.url")
        case _:
            return Refusal(reason="network", sentence=f"{where} cannot be reached; check nvision.url and the network")


def _by_status(error: InvalidStatus, where: str, now: float) -> Refusal:
    status = error.response.status_code
    match status:
        case 401 | 403:
            return Refusal(
                reason="key_refused",
                sentence=f"{where} refused the key; correct nvision.streaming_key",
                wait_s=FINAL_RETRY_S,
                final=True,
            )
        case 404:
            return Refusal(
                reason="not_found",
                sentence=f"{where} does not exist there; correct nvision.url, the base address before /v1",
                wait_s=FINAL_RETRY_S,
                final=True,
            )
        case 301 | 302 | 303 | 307 | 308:
            return Refusal(
                reason="redirect",
                sentence=f"{where} answers with a redirect ({status}); set nvision.url to the final address",
                wait_s=FINAL_RETRY_S,
                final=True,
            )
        case 429 | 503:
            wait = _retry_after(error.response.headers.get("Retry-After"), now)
            return Refusal(reason=f"http_{status}", sentence=f"{where} is too busy ({status})", wait_s=wait)
        case _:
            return Refusal(reason=f"http_{status}", sentence=f"{where} answers {status}")


def _by_close_code(error: ConnectionClosed, where: str) -> Refusal:
    if error.rcvd is None or error.rcvd_then_sent is False:
        return _cut_by_us(error, where)
    code = error.rcvd.code
    match code:
        case 1008:
            return Refusal(
                reason="key_refused",
                sentence=f"{where} closed the stream by its policy (1008); check nvision.streaming_key and the account",
                wait_s=FINAL_RETRY_S,
                final=True,
            )
        case 1013:
            return Refusal(
                reason="try_later", sentence=f"{where} asks to try again later (1013)", wait_s=TRY_AGAIN_LATER_S
            )
        case 1009:
            return Refusal(
                reason="too_large",
                sentence=f"{where} finds the pictures too large (1009); set max_width or a lower jpeg_quality",
                wait_s=TRY_AGAIN_LATER_S,
            )
        case _:
            return Refusal(reason=f"closed_{code}", sentence=f"{where} ended the stream ({code})")


def _cut_by_us(error: ConnectionClosed, where: str) -> Refusal:
    """The service said no goodbye of its own: either we ended it, or the connection broke."""
    match error.sent.code if error.sent else CloseCode.ABNORMAL_CLOSURE:
        case CloseCode.INTERNAL_ERROR:  # of the library's keepalive
            return Refusal(reason="timeout", sentence=f"{where} does not answer")
        case CloseCode.MESSAGE_TOO_BIG | CloseCode.INVALID_DATA | CloseCode.PROTOCOL_ERROR:
            return Refusal(reason="bad_answer", sentence=f"{where} sends what is no answer; check nvision.url")
        case _:
            return Refusal(reason="lost", sentence=f"{where} ended the stream without a word")


def unusable_answer(error: BaseException) -> str | None:
    """Why the message that ended a connection was lost, where it was a message that did."""
    if isinstance(error, ConnectionClosed) and error.sent is not None and not error.rcvd_then_sent:
        match error.sent.code:
            case CloseCode.MESSAGE_TOO_BIG:
                return "too_large"
            case CloseCode.INVALID_DATA:
                return "unreadable"
    return None


def _retry_after(value: str | None, now: float) -> float | None:
    """Seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3); None without one that can be read."""
    if value is None:
        return None
    try:
        seconds = float(value) if value.strip().isdigit() else parsedate_to_datetime(value).timestamp() - now
    except ValueError:
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)
