"""Circuit breaker of one endpoint, and the endpoint's capacity for deliveries.

Performs no I/O and reads no clock: methods take the time as `now` and return the next state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

MAX_FAILURES: Final = 5  # consecutive failures after which the breaker opens
REST_FIRST_S: Final = 5.0
REST_CAP_S: Final = 60.0


class EndpointState(StrEnum):
    """State of an endpoint. The names are part of the API."""

    ACTIVE = "active"
    OPEN = "open"  # the hub sends nothing
    HALF_OPEN = "half_open"  # one delivery probes whether the endpoint works again
    DISABLED = "disabled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """Circuit breaker. It is closed while `rests_until` is None. Times are in monotonic seconds."""

    failures: int = 0  # consecutive failures
    openings: int = 0  # number of times the breaker has opened since the last success
    rests_until: float | None = None
    probing: bool = False

    def state(self, now: float) -> EndpointState:
        """Return the state at `now`, never `DISABLED`."""
        if self.rests_until is None:
            return EndpointState.ACTIVE
        return EndpointState.OPEN if now < self.rests_until else EndpointState.HALF_OPEN

    def wait_s(self, now: float) -> float:
        """Return the seconds until a delivery may be sent; infinity during a probe."""
        if self.probing:
            return math.inf
        return 0.0 if self.rests_until is None else max(0.0, self.rests_until - now)

    def sent(self) -> Breaker:
        return self if self.rests_until is None else replace(self, probing=True)

    def succeeded(self) -> Breaker:
        return Breaker()

    def failed(self, now: float, *, rest_s: float = 0.0) -> Breaker:
        """Return the breaker after a failure. `rest_s` is the pause in seconds that the endpoint requested, or 0."""
        failures = self.failures + 1
        if self.rests_until is not None and not self.probing:  # the delivery was sent before the breaker opened
            return replace(self, rests_until=max(self.rests_until, now + rest_s))
        if self.rests_until is None and failures < MAX_FAILURES and rest_s == 0:
            return replace(self, failures=failures)
        own_s = min(REST_FIRST_S * 2 ** min(self.openings, 10), REST_CAP_S)
        return Breaker(failures=failures, openings=self.openings + 1, rests_until=now + max(own_s, rest_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """Numbers of deliveries that may be read now: `due` from the queue, `new` from the stream."""

    due: int
    new: int  # the caller subtracts the due deliveries that it has read


def capacity(state: EndpointState, *, in_hand: int, in_hand_max: int, due_in_hand: int) -> Capacity:
    """Return the free capacity.

    There is none while the breaker is open or the endpoint is disabled. While the breaker is half open, the sender
    sends one delivery as a probe, and the others wait: an entry that is too old to be sent must not delay the probe.

    Due deliveries may fill half of the capacity, so a long replay never blocks new results.
    """
    if state in {EndpointState.OPEN, EndpointState.DISABLED}:
        return Capacity(due=0, new=0)
    free = max(0, in_hand_max - in_hand)
    return Capacity(due=min(free, max(0, (in_hand_max + 1) // 2 - due_in_hand)), new=free)
