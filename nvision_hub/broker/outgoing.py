"""What is on its way to Redis, while it waits in memory: in order, bounded, and counted.

Pure bookkeeping, without clocks, sockets and metrics.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """One event, encoded."""

    id: str  # unique for each result; the same when it is sent again
    camera: str
    payload: bytes
    received_at: float  # seconds since the epoch, which mean the same to the process that finds it in a spool


class Waiting:
    """Events oldest first. Beyond either bound the oldest are given up, but for those taken and for the newest."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: deque[Outgoing] = deque()
        self._bytes = 0
        self._taken = 0  # how many of the oldest

    def __len__(self) -> int:
        return len(self._events)

    @property
    def half_full(self) -> bool:
        """Whether it is time to find another place for them."""
        return len(self._events) * 2 > self._max_events or self._bytes * 2 > self._max_bytes

    def add(self, event: Outgoing) -> int:
        """Put one behind the others; how many had to be given up for it."""
        self._events.append(event)
        self._bytes += len(event.payload)
        given_up = 0
        while len(self._events) > self._taken + 1 and (
            len(self._events) > self._max_events or self._bytes > self._max_bytes
        ):
            # Not one that is taken, which may arrive: each is either published or lost, and counted once.
            self._bytes -= len(self._events[self._taken].payload)
            del self._events[self._taken]
            given_up += 1
        return given_up

    def take(self, most: int, most_bytes: int) -> list[Outgoing]:
        """The oldest, at least one where there is one; they stay here until `done` or `put_back`."""
        taken: list[Outgoing] = []
        size = 0
        for event in islice(self._events, most):
            size += len(event.payload)
            if taken and size > most_bytes:
                break
            taken.append(event)
        self._taken = len(taken)
        return taken

    def take_all(self) -> list[Outgoing]:
        """All there are now."""
        return self.take(len(self._events), self._bytes)

    def put_back(self) -> None:
        """Those taken did not get anywhere."""
        self._taken = 0

    def done(self) -> None:
        """Those taken are somebody else's now."""
        for _ in range(self._taken):
            self._bytes -= len(self._events.popleft().payload)
        self._taken = 0

    def clear(self) -> int:
        """Forget all; how many there were."""
        given_up = len(self._events)
        self._events.clear()
        self._bytes = self._taken = 0
        return given_up


class Recent:
    """What Redis has confirmed lately, and might lose with its memory: sent again to a Redis that is another one.

    A Redis that syncs its file each second is behind by up to two seconds while its disk is busy. Beyond either bound
    the oldest are let go, which is no loss: they are covered for a shorter time.
    """

    def __init__(self, *, within_s: float, max_events: int, max_bytes: int) -> None:
        self._within_s = within_s
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._confirmed: deque[tuple[float, Outgoing]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._confirmed)

    def add(self, events: Sequence[Outgoing], now: float) -> None:
        """Confirmed at `now` (monotonic seconds). The time runs from the newest: silence afterwards ages nothing."""
        for event in events:
            self._confirmed.append((now, event))
            self._bytes += len(event.payload)
        while self._confirmed and (
            now - self._confirmed[0][0] > self._within_s
            or len(self._confirmed) > self._max_events
            or self._bytes > self._max_bytes
        ):
            self._bytes -= len(self._confirmed.popleft()[1].payload)

    def events(self) -> list[Outgoing]:
        """All of them, oldest first."""
        return [event for _, event in self._confirmed]
