"""Backoff after wrong tokens, per client address and for all clients together. Performs no I/O and reads no clock.

The gateway checks a token before it asks the limiter. It therefore accepts a correct token even from an address that an
attacker shares (NAT, a proxy), and attackers cannot lock users out. This is safe because every token has at least 128
random bits, which cannot be guessed at any rate. The limiter bounds the work and the log lines that wrong tokens cause.
Its `Retry-After` asks a misconfigured client to slow down.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub.runtime.connection_limits import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

BURST: Final = 10  # number of wrong tokens from one address before the gateway responds with 429
REFILL_S: Final = 6.0  # time until one more wrong token from an address is allowed
GLOBAL_BURST: Final = 100
GLOBAL_REFILL_S: Final = 0.1
MAX_RETRY_AFTER_S: Final = 60
# Minimum time between reports on one address; also report the first failure beyond the limit.
REPORT_INTERVAL_S: Final = 60.0
GLOBAL_REPORTS: Final = 60  # maximum number of reports per interval for all addresses together
MAX_ADDRESSES: Final = 1024  # above this number, the limiter forgets the address with the oldest last failure


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Consequences of a failure."""

    retry_after_s: int | None  # None if the failure is within the limits
    is_reported: bool  # whether to log the failure
    suppressed: int = 0  # number of unreported failures of the address since its last report


@dataclass(kw_only=True)
class _Bucket:
    """Token bucket that starts full."""

    size: float
    refill_s: float
    level: float
    at: float

    def has_one(self, now: float) -> bool:
        """Remove a token from the bucket. Return False if the bucket is empty."""
        self.level = min(self.size, self.level + max(0.0, now - self.at) / self.refill_s)
        self.at = now
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True


@dataclass(kw_only=True)
class _Client:
    bucket: _Bucket
    excess: int = 0  # failures beyond the limits; each failure within the limits halves this number
    reported_at: float | None = None
    is_throttling_reported: bool = False  # whether the last report concerned a failure beyond the limits
    suppressed: int = 0  # number of unreported failures since the last report


class FailureLimiter:
    """Limiter for failed authentication attempts."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._all: _Bucket | None = None
        self._reports: _Bucket | None = None

    def record(self, address: str, now: float) -> Failure:
        """Record a failure. `now` is in monotonic seconds."""
        if self._all is None or self._reports is None:
            self._all = _full(GLOBAL_BURST, GLOBAL_REFILL_S, now)
            self._reports = _full(GLOBAL_REPORTS, REPORT_INTERVAL_S / GLOBAL_REPORTS, now)
        client = self._client(client_of(address), now)
        is_allowed = client.bucket.has_one(now) and self._all.has_one(now)
        client.excess = client.excess // 2 if is_allowed else client.excess + 1
        retry_after_s = None if is_allowed else min(MAX_RETRY_AFTER_S, 2 ** min(client.excess.bit_length(), 6))
        is_due = client.reported_at is None or now - client.reported_at >= REPORT_INTERVAL_S
        is_new = not is_allowed and not client.is_throttling_reported
        if not (is_due or is_new) or not self._reports.has_one(now):
            client.suppressed += 1
            return Failure(retry_after_s=retry_after_s, is_reported=False)
        client.is_throttling_reported = not is_allowed
        suppressed, client.suppressed, client.reported_at = client.suppressed, 0, now
        return Failure(retry_after_s=retry_after_s, is_reported=True, suppressed=suppressed)

    def pop_suppressed(self, now: float) -> Iterator[tuple[str, int]]:
        """Yield the addresses whose last report is old, each with the number of failures since that report."""
        for address, client in self._clients.items():
            if client.suppressed and now - (client.reported_at or 0.0) >= REPORT_INTERVAL_S:
                yield address, client.suppressed
                client.suppressed, client.reported_at = 0, now

    def _client(self, name: str, now: float) -> _Client:
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client(bucket=_full(BURST, REFILL_S, now))
        self._clients.move_to_end(name)
        while len(self._clients) > MAX_ADDRESSES:
            self._clients.popitem(last=False)
        return client


def _full(size: int, refill_s: float, now: float) -> _Bucket:
    return _Bucket(size=size, refill_s=refill_s, level=size, at=now)
