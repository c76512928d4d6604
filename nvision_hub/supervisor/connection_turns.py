"""Turns for connections: few cameras connect at once, and reconnects to a service are spaced out. Performs no I/O.

When a fleet starts or an outage ends, simultaneous connections would overload the cameras, the machine and the service.
The caller passes all times in monotonic seconds.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from nvision_hub.runtime.messages import (
    MAX_RECONNECT_DELAY_S,
    ReconnectTurnGranted,
    ReleaseConnectSlot,
    RequestConnectSlot,
    RequestReconnectTurn,
)

if TYPE_CHECKING:
    from nvision_hub.runtime.messages import TurnRequest

MAX_SLOTS: Final = 8
MAX_HELD_S: Final = 2.0  # a dead camera uses its whole connection timeout, but must not delay the other cameras
MAX_WAIT_S: Final = 20.0  # after this wait, a camera connects without a slot
RECONNECT_SPACING_S: Final = 0.125  # 50 cameras reconnect within 6.2 s, 8 of them (16 %) per second


@dataclass(kw_only=True)
class ReconnectTurns:
    """Turns for reconnecting to each service.

    Random waits are not enough: if 50 cameras each wait for a random time of up to 8 s, about a quarter of them still
    reconnect in the same second.
    """

    rng: random.Random = field(default_factory=random.Random)
    _next: dict[str, float] = field(default_factory=dict)  # time of the next free turn, by service

    def delay_s(self, service: str, now: float) -> float:
        """Reserve the next free turn of a service. Return its delay in seconds, or a random delay if none is free."""
        turn = max(now, self._next.get(service, now))
        if turn > now + MAX_RECONNECT_DELAY_S:
            return self.rng.uniform(0.0, MAX_RECONNECT_DELAY_S)
        self._next[service] = turn + RECONNECT_SPACING_S
        return turn - now


class ConnectionTurns:
    """Slots to connect to cameras in the order of the requests, and turns to reconnect to services."""

    def __init__(self) -> None:
        self._reconnects = ReconnectTurns()
        self._held: dict[str, float] = {}  # time of the grant of each slot, by process
        self._waiting: dict[str, float] = {}  # time of each request for a slot, by process, oldest first

    def add(self, name: str, request: TurnRequest, now: float) -> ReconnectTurnGranted | None:
        """Handle the request of a process. Return the reply to `RequestReconnectTurn`; None for any other request."""
        match request:
            case RequestConnectSlot():
                self._held.pop(name, None)  # the worker connects again
                self._waiting.setdefault(name, now)
            case ReleaseConnectSlot():  # the worker has connected or has given up
                self.remove(name)
            case RequestReconnectTurn(service=service):
                return ReconnectTurnGranted(delay_s=self._reconnects.delay_s(service, now))
        return None

    def remove(self, name: str) -> None:
        """Release the slot of a process and remove the process from the queue."""
        self._held.pop(name, None)
        self._waiting.pop(name, None)

    def grant(self, now: float) -> list[str]:
        """Return the processes that may connect now, and revoke slots held for longer than `MAX_HELD_S`."""
        self._held = {name: since for name, since in self._held.items() if now - since <= MAX_HELD_S}
        granted = []
        for name, since in list(self._waiting.items()):
            if len(self._held) < MAX_SLOTS:
                self._held[name] = now
            elif now - since < MAX_WAIT_S:
                break
            del self._waiting[name]
            granted.append(name)
        return granted
