"""API keys, and a token bucket for each key. Callers pass the time."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from typing import Final

MAX_KEYS: Final = 1_024  # limits the memory use if every key is accepted


class KeyRateLimiter:
    """Rate limiter that accepts API keys and limits the requests per second of each key.

    If `keys` is empty, any non-empty key is accepted. A rate of None means no limit. A bucket holds the tokens of one
    second, but at least one token.
    """

    def __init__(self, keys: tuple[str, ...], rate_limit_per_s: float | None) -> None:
        self._keys = tuple(key.encode() for key in keys)
        self._rate = rate_limit_per_s
        # By key: number of tokens, and the time of this number.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def is_accepted(self, key: str) -> bool:
        if not self._keys:
            return bool(key)
        offered = key.encode()
        # Unlike `any`, `sum` compares every key, so the duration does not reveal a match.
        return sum(hmac.compare_digest(offered, known) for known in self._keys) > 0

    def acquire(self, key: str, now: float, *, count: int = 1) -> float:
        """If the limit allows it, count a request with `key` at `now` (monotonic seconds). A `count` of 0 only checks.

        Return the seconds until the limit allows the request; 0 if the limit allows it now.
        """
        if self._rate is None:
            return 0.0
        capacity = max(self._rate, 1.0)
        tokens, at = self._buckets.pop(key, (capacity, now))
        tokens = min(tokens + (now - at) * self._rate, capacity)
        wait_s = max(0.0, (1.0 - tokens) / self._rate)
        self._buckets[key] = (tokens if wait_s else tokens - count, now)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return wait_s
