"""Backoff delays: exponential with jitter, capped, and reset only after a period without failures."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Backoff:
    """Delays between attempts at one operation.

    Each delay is random, so that clients that fail together do not retry together. The delay lies between `first_s` and
    a ceiling that doubles with each attempt up to `cap_s`. The ceiling is reset only after `healthy_s` seconds without
    a failure. Otherwise, a peer that accepts each connection and then closes it would reset the ceiling every time.
    """

    first_s: float = 1.0
    cap_s: float = 30.0
    healthy_s: float = 30.0
    rng: random.Random = field(default_factory=random.Random)
    tries: int = 0
    _healthy_since: float | None = None

    def next_s(self) -> float:
        """Return the seconds to wait before the next attempt."""
        # A factor of 2**32 exceeds any cap. Without this limit, a month of attempts would build a huge integer.
        ceiling = min(self.cap_s, self.first_s * 2 ** min(self.tries + 1, 32))
        self.tries += 1
        self._healthy_since = None
        return self.rng.uniform(self.first_s, ceiling)

    def healthy(self, now: float) -> None:
        """Record a success at `now`, in monotonic seconds."""
        if self._healthy_since is None:
            self._healthy_since = now
        elif now - self._healthy_since >= self.healthy_s:
            self.tries = 0

    def failed(self) -> None:
        """Record a failure, which ends the period without failures."""
        self._healthy_since = None
