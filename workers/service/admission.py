"""Who may ask, and how often: keys and the rate of each. Pure: the time comes in, a verdict goes out."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MOST_KEYS: Final = 1_024  # whose rate is remembered, where any key is accepted


@dataclass(frozen=True, kw_only=True, slots=True)
class TooMany:
    """A request over the rate; it would pass after `retry_after_s`."""

    retry_after_s: float


@dataclass(kw_only=True, slots=True)
class _Bucket:
    """A token bucket that holds one second's worth."""

    tokens: float
    at: float


class Admission:
    """The keys that are accepted, and each one's rate in requests a second.

    No keys at all: any but an empty one is accepted. A rate of None: no limit.
    """

    def __init__(self, keys: tuple[str, ...], rate_limit_per_s: float | None) -> None:
        self._keys = tuple(key.encode() for key in keys)
        self._rate = rate_limit_per_s
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def knows(self, key: str) -> bool:
        """Whether `key` opens the door."""
        if not self._keys:
            return bool(key)
        offered = key.encode()
        # Summed, not `any`: it goes through all of them, so the time tells nothing about which came near.
        return sum(hmac.compare_digest(offered, known) for known in self._keys) > 0

    def take(self, key: str, now: float) -> TooMany | None:
        """Count one request of `key` at `now` (monotonic seconds); `TooMany` where it is over the rate."""
        wait_s = self.wait_s(key, now)
        if wait_s > 0:
            return TooMany(retry_after_s=wait_s)
        if self._rate is not None:
            self._buckets[key].tokens -= 1
        return None

    def wait_s(self, key: str, now: float) -> float:
        """Seconds until `key` may ask again; 0 where it may now."""
        if self._rate is None:
            return 0.0
        most = max(self._rate, 1.0)
        bucket = self._buckets.setdefault(key, _Bucket(tokens=most, at=now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(bucket.tokens + (now - bucket.at) * self._rate, most)
        bucket.at = now
        return max(0.0, (1.0 - bucket.tokens) / self._rate)
