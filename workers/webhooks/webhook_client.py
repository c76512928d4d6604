"""HTTP client of one webhook: signs and posts a delivery, and classifies the outcome of the attempt."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import httpcore2
import httpx2
from standardwebhooks import Webhook as Signer

from nvision_hub import __version__
from nvision_hub.errors import HubError
from nvision_hub.redaction import redact
from nvision_hub.retry_after import parse_retry_after
from workers.webhooks.settings import MAX_RETRY_AFTER_S, TIMEOUT_S
from workers.webhooks.ssrf import ForbiddenAddressError, GuardedNetwork
from workers.webhooks.tcp_connection import AnswerTooLongError

if TYPE_CHECKING:
    from nvision_hub.config.models import Webhook

IDLE_TIMEOUT_S: Final = 30.0  # after this time, the pool closes an unused connection
JSON: Final = b"application/json"
CLOUD_EVENT: Final = b"application/cloudevents+json"  # in structured mode (CloudEvents HTTP binding, 3.2)
_GONE: Final = 410
_LIBRARY_ERRORS: Final = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException)


class Outcome(StrEnum):
    """Outcome of one attempt. The values are also values of a metric label."""

    DELIVERED = "delivered"
    HTTP_ERROR = "http_error"  # any status except 2xx and 410
    GONE = "gone"  # status 410
    TIMED_OUT = "timed_out"
    CONNECTION = "connection"  # the connection was not established, or was lost
    FORBIDDEN = "forbidden"  # the address is not public


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One attempt to send a delivery."""

    outcome: Outcome
    took_s: float
    error: str | None = None  # continues a sentence about the endpoint, for example "answered 500"; None if delivered
    retry_after_s: float = 0.0  # delay that the endpoint requested, or 0


class WebhookClient:
    """HTTP client of one webhook, based on httpx2's connection pool.

    httpx2's own client also handles redirects and cookies, and reads proxies and credentials from the environment.
    None of this is allowed here, and that client sends a third fewer requests per second (docs/performance.md).
    """

    def __init__(
        self, webhook: Webhook, *, connections: int, timeout_s: float = TIMEOUT_S, network: GuardedNetwork | None = None
    ) -> None:
        self._signers = [Signer(secret.reveal()) for secret in webhook.secret]
        self._timeout_s = timeout_s
        url = httpx2.URL(webhook.url.dial())
        self._url = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path or b"/")
        self._headers = [
            (b"host", url.netloc),
            (b"user-agent", f"nvision-hub/{__version__}".encode()),
        ]
        if url.username or url.password:
            credentials = base64.b64encode(f"{url.username}:{url.password}".encode())
            self._headers.append((b"authorization", b"Basic " + credentials))
        self._pool = httpcore2.AsyncConnectionPool(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=IDLE_TIMEOUT_S,
            network_backend=network or GuardedNetwork(allow_private=webhook.allow_private),
        )

    def signature(self, delivery_id: str, at: datetime, body: bytes) -> str:
        """Return the `webhook-signature` header: one signature per secret, so a receiver can verify with any secret."""
        text = body.decode()
        return " ".join(signer.sign(delivery_id, at, text) for signer in self._signers)

    async def post(self, delivery_id: str, body: bytes, *, content_type: bytes = JSON) -> Attempt:
        """Make one attempt to send a delivery. Raises only `CancelledError`."""
        began = time.monotonic()
        at = datetime.now(UTC)
        try:
            headers = [
                *self._headers,
                (b"content-type", content_type),
                (b"content-length", b"%d" % len(body)),
                (b"webhook-id", delivery_id.encode("ascii", "replace")),
                (b"webhook-timestamp", b"%d" % int(at.timestamp())),
                (b"webhook-signature", self.signature(delivery_id, at, body).encode()),
            ]
            async with asyncio.timeout(self._timeout_s):
                status, retry_after = await self._exchange(headers, body)
        except TimeoutError:
            outcome, error = Outcome.TIMED_OUT, f"did not answer within {self._timeout_s:g} s"
        except ForbiddenAddressError as forbidden:
            outcome, error = Outcome.FORBIDDEN, str(forbidden)
        except HubError as unknown:
            outcome, error = Outcome.CONNECTION, str(unknown)
        except (*_LIBRARY_ERRORS, OSError, UnicodeError) as broken:
            outcome, error = Outcome.CONNECTION, f"cannot be reached ({_reason(broken)})"
        else:
            return _classify(status, retry_after, time.monotonic() - began)
        return Attempt(outcome=outcome, took_s=time.monotonic() - began, error=error)

    async def _exchange(self, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, str]:
        request = httpcore2.Request("POST", self._url, headers=headers, content=body)
        response = await self._pool.handle_async_request(request)
        try:
            with contextlib.suppress(AnswerTooLongError):  # the status is known
                async for _ in response.aiter_stream():
                    pass
        finally:
            await response.aclose()
        retry_after = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"")
        return response.status, retry_after.decode("ascii", "replace")

    async def aclose(self) -> None:
        await self._pool.aclose()


def _classify(status: int, retry_after: str | None, took_s: float) -> Attempt:
    outcome, error, retry_after_s = Outcome.HTTP_ERROR, f"answered {status}", 0.0
    match status // 100:
        case 2:
            return Attempt(outcome=Outcome.DELIVERED, took_s=took_s)
        case 3:
            error += ", a redirect, which is not followed; correct the webhook's url"
        case _ if status == _GONE:
            outcome = Outcome.GONE
            error += " (gone): it accepts no more deliveries"
        case _:
            retry_after_s = parse_retry_after(retry_after, now=time.time(), max_s=MAX_RETRY_AFTER_S) or 0.0
    return Attempt(outcome=outcome, took_s=took_s, error=error, retry_after_s=retry_after_s)


def _reason(error: BaseException) -> str:
    """Return the message of the innermost cause, because the library's errors around it are less specific.

    The message may quote the endpoint, and the endpoint may quote the request with its secrets.
    """
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return redact(str(error)) or type(error).__name__
