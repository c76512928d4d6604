"""Order in which cameras send images while there are not enough images for all of them.

Each camera gets the same share of its own rate, multiplied by the weight of its priority (start-time fair queuing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Priority = Literal["low", "normal", "high"]
# With these weights, a class is served nearly in full before the next lower class gets more than a trickle.
WEIGHTS: Final[dict[Priority, float]] = {"low": 1.0, "normal": 10.0, "high": 100.0}
MAX_CATCH_UP: Final = 2  # images
MAX_STARVED_S: Final = 50.0  # a camera that has waited this long is served first, so that it sends an image a minute


@dataclass(slots=True)
class _Turn:
    cost: float  # virtual time of one image
    finish: float = 0.0  # virtual time at which the camera's last image was paid for
    served: float = float("-inf")  # monotonic time of the last image, or of the first request before that
    is_waiting: bool = False


class FairQueue:
    """Cameras that wait to send one image each. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._virtual = 0.0  # virtual time: the start of the image served last

    def set_share(self, camera: str, fps: float, priority: Priority) -> None:
        """Add a camera, or change its rate and priority."""
        cost = 1.0 / (fps * WEIGHTS[priority])
        if camera in self._turns:
            self._turns[camera].cost = cost
        else:
            self._turns[camera] = _Turn(cost, self._virtual)

    def remove(self, camera: str) -> None:
        self._turns.pop(camera, None)

    def add(self, camera: str, now: float) -> None:
        """Let a camera wait for its next image."""
        turn = self._turns[camera]
        turn.is_waiting = True
        if turn.served == float("-inf"):
            turn.served = now

    def cancel(self, camera: str) -> None:
        """Remove a camera's request, but not the camera."""
        if camera in self._turns:
            self._turns[camera].is_waiting = False

    @property
    def waiting(self) -> list[str]:
        return [camera for camera, turn in self._turns.items() if turn.is_waiting]

    def first(self, now: float, is_allowed: Callable[[str], bool]) -> str | None:
        """Return the camera to serve next, of the waiting cameras that `is_allowed` accepts; None if there is none."""
        allowed = [camera for camera in self.waiting if is_allowed(camera)]
        return min(allowed, key=lambda camera: self._order(self._turns[camera], now), default=None)

    def _order(self, turn: _Turn, now: float) -> tuple[bool, float]:
        if now - turn.served > MAX_STARVED_S:
            return False, turn.served
        return True, self._start(turn) + turn.cost

    def _start(self, turn: _Turn) -> float:
        """Return the virtual time at which the camera's next image starts.

        A late camera may catch up, but only by `MAX_CATCH_UP` images, so that an idle camera sends no long burst.
        """
        return max(turn.finish, self._virtual - MAX_CATCH_UP * turn.cost)

    def serve(self, camera: str, now: float) -> None:
        """Count the image of a waiting camera as sent."""
        turn = self._turns[camera]
        start = self._start(turn)
        if now - turn.served <= MAX_STARVED_S:  # a starved camera is served before its turn
            self._virtual = max(self._virtual, start)
        turn.finish, turn.served, turn.is_waiting = start + turn.cost, now, False
