"""In-memory buffers of a publisher: events on their way to Redis, and events that Redis confirmed recently.

Each buffer has bounds and preserves the order of the events. This module uses no clocks, sockets or metrics.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class OutgoingEvent:
    id: str  # unique for each result; a result that is sent again keeps its id
    camera: str
    payload: bytes  # the encoded event
    received_at: float  # seconds since the epoch, because monotonic times are invalid after a reboot


class SendBuffer:
    """Buffer of events, oldest first.

    If the buffer exceeds a bound, it drops its oldest events, but never a reserved event or the newest event.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: deque[OutgoingEvent] = deque()
        self._bytes = 0
        self._reserved = 0  # number of the oldest events that are being sent or saved

    def __len__(self) -> int:
        return len(self._events)

    @property
    def is_half_full(self) -> bool:
        """Whether the buffer is more than half full. The publisher then moves its events to the spool."""
        return len(self._events) * 2 > self._max_events or self._bytes * 2 > self._max_bytes

    def add(self, event: OutgoingEvent) -> int:
        """Append an event and return the number of older events that the buffer dropped to make room."""
        self._events.append(event)
        self._bytes += len(event.payload)
        dropped = 0
        while len(self._events) > self._reserved + 1 and (
            len(self._events) > self._max_events or self._bytes > self._max_bytes
        ):
            # Each event must count once, as published or as lost. A reserved event may still reach Redis, so the buffer
            # keeps it.
            self._bytes -= len(self._events[self._reserved].payload)
            del self._events[self._reserved]
            dropped += 1
        return dropped

    def reserve(self, max_events: int | None = None, max_bytes: float = math.inf) -> list[OutgoingEvent]:
        """Reserve and return the oldest events, at least one unless the buffer is empty. A limit may be None.

        Reserved events stay in the buffer. Call `remove_reserved` or `release_reserved` afterward.
        """
        batch: list[OutgoingEvent] = []
        size = 0
        for event in islice(self._events, max_events):
            size += len(event.payload)
            if batch and size > max_bytes:
                break
            batch.append(event)
        self._reserved = len(batch)
        return batch

    def release_reserved(self) -> None:
        """End the reservation and keep the events, because they were neither sent nor saved."""
        self._reserved = 0

    def remove_reserved(self) -> None:
        """Remove the reserved events, because Redis or the spool has them."""
        for _ in range(self._reserved):
            self._bytes -= len(self._events.popleft().payload)
        self._reserved = 0

    def clear(self) -> int:
        """Remove all events and return their number."""
        dropped = len(self._events)
        self._events.clear()
        self._bytes = self._reserved = 0
        return dropped


class RecentEvents:
    """Events that Redis confirmed recently. If Redis restarts and may have lost them, the publisher resends them.

    If the events exceed a bound, the buffer drops the oldest events and so covers a shorter time.
    """

    def __init__(self, *, timeout_s: float, max_events: int, max_bytes: int) -> None:
        self._timeout_s = timeout_s
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._confirmed: deque[tuple[float, OutgoingEvent]] = deque()
        self._bytes = 0

    def add(self, events: Sequence[OutgoingEvent], now: float) -> None:
        """Add events confirmed at `now` (monotonic seconds), and drop expired events."""
        for event in events:
            self._confirmed.append((now, event))
            self._bytes += len(event.payload)
        while self._confirmed and (
            now - self._confirmed[0][0] > self._timeout_s
            or len(self._confirmed) > self._max_events
            or self._bytes > self._max_bytes
        ):
            self._bytes -= len(self._confirmed.popleft()[1].payload)

    def events(self) -> list[OutgoingEvent]:
        """Return all events, oldest first."""
        return [event for _, event in self._confirmed]
