"""The one generator of delays: full jitter, exponential, capped, and reset only after sustained health."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Backoff:
    """Delays between tries at one thing.

    Each delay is drawn evenly between `first_s` and a ceiling that doubles from try to try up to `cap_s`, so a
    fleet that fails together does not come back together. A success alone resets nothing: a peer that accepts
    and then closes would turn that into a hot loop. Only `healthy_s` seconds of health do.
    """

    first_s: float = 1.0
    cap_s: float = 30.0
    healthy_s: float = 30.0
    rng: random.Random = field(default_factory=random.Random)
    tries: int = 0
    _healthy_since: float | None = None

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        # 2**32 seconds are past any cap; bounding the exponent keeps a month of tries from building a huge integer.
        ceiling = min(self.cap_s, self.first_s * 2 ** min(self.tries + 1, 32))
        self.tries += 1
        self._healthy_since = None
        return self.rng.uniform(self.first_s, ceiling)

    def healthy(self, now: float) -> None:
        """Say that the thing works at `now` (monotonic seconds); resets after `healthy_s` of it."""
        if self._healthy_since is None:
            self._healthy_since = now
        elif now - self._healthy_since >= self.healthy_s:
            self.tries = 0

    def failed(self) -> None:
        """Say that it stopped working: health must be sustained anew."""
        self._healthy_since = None
