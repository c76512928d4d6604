"""The circuit breaker of one endpoint, and how much of what waits it may have. Pure: `now` in, the next state out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

FAILURES_MAX: Final = 5  # in a row; then the endpoint counts as down
REST_FIRST_S: Final = 5.0
REST_CAP_S: Final = 60.0


class EndpointState(StrEnum):
    """Where an endpoint stands, for operators; the names are part of the API."""

    ACTIVE = "active"
    OPEN = "open"  # the breaker: nothing is sent
    HALF_OPEN = "half_open"  # one delivery tries whether it is back
    DISABLED = "disabled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """Closed while `rests_until` is None. Times are monotonic seconds."""

    failures: int = 0  # in a row
    openings: int = 0  # since the last success
    rests_until: float | None = None
    probing: bool = False

    def state(self, now: float) -> EndpointState:
        """Never `DISABLED`, which is no matter of time."""
        if self.rests_until is None:
            return EndpointState.ACTIVE
        return EndpointState.OPEN if now < self.rests_until else EndpointState.HALF_OPEN

    def wait_s(self, now: float) -> float:
        """How long the next delivery has to wait; 0 where it may be sent, infinite until the probe has its answer."""
        if self.probing:
            return math.inf
        return 0.0 if self.rests_until is None else max(0.0, self.rests_until - now)

    def sent(self) -> Breaker:
        """A delivery that was admitted is on its way."""
        return self if self.rests_until is None else replace(self, probing=True)

    def succeeded(self) -> Breaker:
        """The endpoint took a delivery."""
        return Breaker()

    def failed(self, now: float, *, rest_s: float = 0.0) -> Breaker:
        """The endpoint took none; with `rest_s`, it asked to be left alone for so long."""
        failures = self.failures + 1
        if self.rests_until is not None and not self.probing:  # sent before it opened: tells nothing new
            return replace(self, rests_until=max(self.rests_until, now + rest_s))
        if self.rests_until is None and failures < FAILURES_MAX and rest_s == 0:
            return replace(self, failures=failures)
        own_s = min(REST_FIRST_S * 2 ** min(self.openings, 10), REST_CAP_S)
        return Breaker(failures=failures, openings=self.openings + 1, rests_until=now + max(own_s, rest_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """How many deliveries may be taken up now: of those that wait and are due, and new ones from the stream."""

    due: int
    new: int  # less as many of the former as there are


def room(state: EndpointState, *, in_hand: int, in_hand_max: int, due_in_hand: int) -> Room:
    """What to take up. While the breaker is open nothing; half-open, one that serves as the probe.

    Those that are due may fill half of the room only, so that new results never stand behind a long replay.
    """
    if state in {EndpointState.OPEN, EndpointState.DISABLED}:
        return Room(due=0, new=0)
    most = 1 if state is EndpointState.HALF_OPEN else in_hand_max
    free = max(0, most - in_hand)
    return Room(due=min(free, max(0, (most + 1) // 2 - due_in_hand)), new=free)
