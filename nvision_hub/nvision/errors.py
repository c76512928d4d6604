"""Classification of failed connections to Nvision: the reason, and when to retry. Performs no I/O.

The default classification in websockets does not fit: it would retry after a bad certificate (`SSLError` is an
`OSError`) and give up on status 429.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
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

from nvision_hub.retry_after import parse_retry_after

# With this interval, the hub soon notices a corrected account but puts no noticeable load on the service.
FINAL_RETRY_S: Final = 600.0
MAX_RETRY_AFTER_S: Final = 3600.0
TRY_AGAIN_LATER_S: Final = 10.0
_FINAL_REASONS: Final = frozenset({"certificate", "key_refused", "not_found", "redirect"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionFailure:
    reason: str  # value of a label in metrics
    message: str  # shown to the user
    wait_s: float | None = None  # minimum wait before the next attempt; if None, only the backoff applies
    final: bool = False  # whether retries are useless until the user fixes the cause


def classify(error: BaseException, url: str, *, now: float) -> ConnectionFailure:
    """Classify an error of a connection to `url`. `now` is in seconds since the epoch."""
    match error:
        case InvalidStatus():
            return _by_status(error, url, now)
        case ConnectionClosed():
            return _by_close_code(error, url)
        case ssl.SSLCertVerificationError():
            return _failure(
                "certificate",
                f"{url} has a certificate that this machine does not trust; correct nvision.url, or install the "
                "issuer's certificate",
            )
        case ssl.SSLError():
            return _failure("tls", f"{url} does not complete the TLS handshake; check nvision.url")
        case ImportError():  # websockets imports python-socks only when the proxy is a SOCKS proxy
            return _failure(
                "proxy",
                f"{url} is reached through a SOCKS proxy, which requires python-socks; run `pip install python-socks`, "
                "or set an HTTP proxy in this machine's environment",
                FINAL_RETRY_S,
            )
        case ProxyError() | InvalidProxy():
            return _failure(
                "proxy",
                f"the proxy in this machine's environment rejects connections to {url}; correct https_proxy, or add "
                "the host to no_proxy",
            )
        case InvalidURI() | InvalidHandshake():
            return _failure("protocol", f"{url} does not speak WebSocket; correct nvision.url")
        case TimeoutError():
            return _failure("timeout", f"{url} does not answer")
        case ConnectionRefusedError():
            return _failure("refused", f"connection refused by {url}; check nvision.url")
        case _:
            return _failure("network", f"{url} cannot be reached; check nvision.url and the network")


def _failure(reason: str, message: str, wait_s: float | None = None) -> ConnectionFailure:
    is_final = reason in _FINAL_REASONS
    return ConnectionFailure(
        reason=reason, message=message, wait_s=FINAL_RETRY_S if is_final else wait_s, final=is_final
    )


def _by_status(error: InvalidStatus, url: str, now: float) -> ConnectionFailure:
    status = error.response.status_code
    match status:
        case 401 | 403:
            return _failure("key_refused", f"{url} refused the key; correct nvision.streaming_key")
        case 404:
            return _failure("not_found", f"{url} does not exist; set nvision.url to the part before /v1")
        case 301 | 302 | 303 | 307 | 308:
            return _failure("redirect", f"{url} redirects ({status}); set nvision.url to the final address")
        case 429 | 503:
            # `get` would raise an error for a repeated header. The hub uses the first value instead.
            header = next(iter(error.response.headers.get_all("Retry-After")), None)
            wait_s = parse_retry_after(header, now=now, max_s=MAX_RETRY_AFTER_S)
            return _failure(f"http_{status}", f"{url} is too busy ({status})", wait_s)
        case _:
            return _failure(f"http_{status}", f"{url} responded with HTTP status {status}")


def _by_close_code(error: ConnectionClosed, url: str) -> ConnectionFailure:
    # This side closed the connection first, or the connection broke.
    if error.rcvd is None or error.rcvd_then_sent is False:
        match error.sent.code if error.sent else CloseCode.ABNORMAL_CLOSURE:
            case CloseCode.INTERNAL_ERROR:  # the code that the keepalive of websockets sends
                return _failure("timeout", f"{url} does not answer")
            case CloseCode.MESSAGE_TOO_BIG | CloseCode.INVALID_DATA | CloseCode.PROTOCOL_ERROR:
                return _failure("bad_answer", f"{url} sent a message that is not a result; check nvision.url")
            case _:
                return _failure("lost", f"{url} closed the stream without a status code")
    code = error.rcvd.code
    match code:
        case 1008:
            message = f"{url} reported a policy violation (1008); check nvision.streaming_key and the account"
            return _failure("key_refused", message)
        case 1013:
            return _failure("try_later", f"{url} asks the hub to try again later (1013)", TRY_AGAIN_LATER_S)
        case 1009:
            message = f"{url} rejects the frames as too large (1009); set max_width or a lower jpeg_quality"
            return _failure("too_large", message, TRY_AGAIN_LATER_S)
        case _:
            return _failure(f"closed_{code}", f"{url} closed the stream ({code})")


def unusable_result(error: BaseException) -> str | None:
    """Return `too_large` or `unreadable` if a result with this defect ended the connection; None otherwise."""
    if isinstance(error, ConnectionClosed) and error.sent is not None and not error.rcvd_then_sent:
        lost: dict[int, str] = {CloseCode.MESSAGE_TOO_BIG: "too_large", CloseCode.INVALID_DATA: "unreadable"}
        return lost.get(error.sent.code)
    return None
