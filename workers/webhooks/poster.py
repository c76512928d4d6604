"""One try at one delivery: signed, posted, and what came of it. Knows no schedule and no Redis."""

from __future__ import annotations

import asyncio
import base64
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
from workers.webhooks.guard import ForbiddenAddressError, GuardedNetwork
from workers.webhooks.schedule import TIMEOUT_S, retry_after_s

if TYPE_CHECKING:
    from nvision_hub.config import Webhook

IDLE_S: Final = 30.0  # an unused connection is closed after it
ANSWER_MAX_BYTES: Final = 64 * 1024  # of an answer only its status is of use; a longer one is not read to its end
_GONE: Final = 410


class Outcome(StrEnum):
    """What came of one try; the names are values of a metric's label."""

    DELIVERED = "delivered"
    HTTP_ERROR = "http_error"  # answered with anything but 2xx and 410
    GONE = "gone"  # answered with 410
    TIMED_OUT = "timed_out"
    CONNECTION = "connection"  # no connection, or one that broke
    FORBIDDEN = "forbidden"  # its address is not public


@dataclass(frozen=True, kw_only=True, slots=True)
class Try:
    """How one try went."""

    outcome: Outcome
    took_s: float
    error: str | None = None  # half a sentence about the endpoint; None where it was delivered
    retry_after_s: float = 0.0  # what the endpoint asked for


class Poster:
    """The HTTP client of one webhook.

    It is httpx2's own connection pool without the client around it: that client's redirects, cookies, proxies and
    credentials from the environment are what may not happen here, and cost a third of the deliveries per second.
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
            (b"content-type", b"application/json"),
        ]
        if url.username or url.password:
            credentials = base64.b64encode(f"{url.username}:{url.password}".encode())
            self._headers.append((b"authorization", b"Basic " + credentials))
        self._pool = httpcore2.AsyncConnectionPool(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=IDLE_S,
            network_backend=network or GuardedNetwork(allow_private=webhook.allow_private),
        )

    def signature(self, delivery_id: str, at: datetime, body: bytes) -> str:
        """The `webhook-signature` header: one for each secret, so that a receiver may have either of them."""
        text = body.decode()
        return " ".join(signer.sign(delivery_id, at, text) for signer in self._signers)

    async def post(self, delivery_id: str, body: bytes) -> Try:
        """Try once. Raises nothing but its own cancellation."""
        began = time.monotonic()
        at = datetime.now(UTC)
        try:
            headers = [
                *self._headers,
                (b"content-length", b"%d" % len(body)),
                (b"webhook-id", delivery_id.encode("ascii", "replace")),
                (b"webhook-timestamp", b"%d" % int(at.timestamp())),
                (b"webhook-signature", self.signature(delivery_id, at, body).encode()),
            ]
            async with asyncio.timeout(self._timeout_s):
                status, retry_after = await self._exchange(headers, body)
        except TimeoutError:
            error = f"did not answer within {self._timeout_s:g} s"
            return Try(outcome=Outcome.TIMED_OUT, took_s=time.monotonic() - began, error=error)
        except ForbiddenAddressError as refusal:
            return Try(outcome=Outcome.FORBIDDEN, took_s=time.monotonic() - began, error=str(refusal))
        except HubError as unknown:
            return Try(outcome=Outcome.CONNECTION, took_s=time.monotonic() - began, error=str(unknown))
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
            OSError,
            UnicodeError,
        ) as broken:
            error = f"cannot be reached ({_reason(broken)})"
            return Try(outcome=Outcome.CONNECTION, took_s=time.monotonic() - began, error=error)
        return _judge(status, retry_after, time.monotonic() - began)

    async def _exchange(self, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, str | None]:
        request = httpcore2.Request("POST", self._url, headers=headers, content=body)
        response = await self._pool.handle_async_request(request)
        try:
            received = 0
            async for part in response.aiter_stream():
                received += len(part)
                if received > ANSWER_MAX_BYTES:
                    break
        finally:
            await response.aclose()
        found = next((value for name, value in response.headers if name.lower() == b"retry-after"), None)
        return response.status, None if found is None else found.decode("ascii", "replace")

    async def close(self) -> None:
        """Close its connections."""
        await self._pool.aclose()


def _judge(status: int, retry_after: str | None, took_s: float) -> Try:
    match status // 100:
        case 2:
            return Try(outcome=Outcome.DELIVERED, took_s=took_s)
        case 3:
            error = f"answered {status}, a redirect, which is not followed; correct the webhook's url"
            return Try(outcome=Outcome.HTTP_ERROR, took_s=took_s, error=error)
    if status == _GONE:
        error = f"answered {status}: it wants no more"
        return Try(outcome=Outcome.GONE, took_s=took_s, error=error)
    return Try(
        outcome=Outcome.HTTP_ERROR,
        took_s=took_s,
        error=f"answered {status}",
        retry_after_s=retry_after_s(retry_after, time.time()),
    )


def _reason(error: BaseException) -> str:
    """The innermost cause: the library wraps, and says less each time."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return str(error) or type(error).__name__
