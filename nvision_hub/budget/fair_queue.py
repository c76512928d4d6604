"""Order in which cameras send images when not all cameras can send as many images as they want.

Each camera gets the same share of its own rate, multiplied by the weight of its priority (start-time fair queuing).

Cameras with the same limits form a group. The queue can thus skip all cameras of a group that has reached a limit.
Within a group, heaps hold the waiting cameras, so the queue finds the next camera without a search.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Priority = Literal["low", "normal", "high"]
# With these weights, the queue serves a class almost fully before the next lower class gets more than a few images.
WEIGHTS: Final[dict[Priority, float]] = {"low": 1.0, "normal": 10.0, "high": 100.0}
MAX_CATCH_UP: Final = 2  # images
MAX_STARVED_S: Final = 50.0  # after this wait, a camera is served first, so that it sends an image a minute
_MAX_OUTDATED: Final = 64  # outdated entries of a heap beyond the number of waiting cameras


class _QueueEntry(NamedTuple):
    """Entry of a heap. The entry is outdated if the camera no longer has this ticket."""

    at: float  # virtual time in `by_order`, monotonic time in `by_service`
    position: int
    ticket: int
    camera: str


@dataclass(slots=True)
class _Group:
    waiting: dict[str, None] = field(default_factory=dict)
    # By the virtual time at which the camera's next image ends. This time only increases while the camera waits, so an
    # entry may be too low, but never too high.
    by_order: list[_QueueEntry] = field(default_factory=list)
    by_service: list[_QueueEntry] = field(default_factory=list)  # by the monotonic time of the last image


@dataclass(slots=True)
class _Turn:
    cost: float  # virtual time of one image
    group: _Group
    position: int  # decides between cameras that are otherwise equal
    finish: float  # virtual time at which the share of the camera's last image ends
    served: float = float("-inf")  # monotonic time of the last image, or of the first request before that
    is_waiting: bool = False
    ticket: int = 0


class FairQueue:
    """Cameras that wait to send one image each. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._groups: dict[str, _Group] = {}
        self._virtual = 0.0  # virtual time: the start of the image served last
        self._added = 0

    def set_share(self, camera: str, fps: float, priority: Priority, group: str = "") -> None:
        """Add a camera, or change its rate and priority. A camera keeps its group until it is removed."""
        cost = 1.0 / (fps * WEIGHTS[priority])
        turn = self._turns.get(camera)
        if turn is None:
            self._added += 1
            self._turns[camera] = _Turn(cost, self._groups.setdefault(group, _Group()), self._added, self._virtual)
        elif turn.cost != cost:
            turn.cost = cost
            if turn.is_waiting:
                self._push(camera, turn)

    def remove(self, camera: str) -> None:
        if (turn := self._turns.pop(camera, None)) is not None:
            turn.group.waiting.pop(camera, None)

    def add(self, camera: str, now: float) -> None:
        """Add a camera to those that wait for their next image."""
        turn = self._turns[camera]
        if turn.is_waiting:
            return
        turn.is_waiting = True
        turn.group.waiting[camera] = None
        if turn.served == float("-inf"):
            turn.served = now
        self._push(camera, turn)

    def is_waiting(self, camera: str) -> bool:
        return (turn := self._turns.get(camera)) is not None and turn.is_waiting

    def waiting(self, group: str) -> Collection[str]:
        """Return the waiting cameras of a group."""
        return self._groups[group].waiting

    def first(
        self, now: float, is_allowed: Callable[[str], bool], is_open: Callable[[str], bool] = lambda _group: True
    ) -> str | None:
        """Return the camera to serve next; None if there is none.

        `is_open` must accept the camera's group, and `is_allowed` must accept the camera.
        """
        found = [
            entry
            for name, group in self._groups.items()
            if group.waiting and is_open(name) and (entry := self._first_of(group, now, is_allowed)) is not None
        ]
        return min(found)[1].camera if found else None

    def _first_of(
        self, group: _Group, now: float, is_allowed: Callable[[str], bool]
    ) -> tuple[bool, _QueueEntry] | None:
        """Return the group's next camera, and whether the camera is not starved: starved cameras sort first."""
        refused = list[_QueueEntry]()
        try:
            while (entry := self._top(group.by_service)) is not None and now - entry.at > MAX_STARVED_S:
                if is_allowed(entry.camera):
                    return False, entry
                refused.append(heappop(group.by_service))
        finally:
            for entry in refused:
                heappush(group.by_service, entry)
        refused = []
        try:
            while (entry := self._top(group.by_order)) is not None:
                turn = self._turns[entry.camera]
                if (end := self._start(turn) + turn.cost) > entry.at:
                    heappop(group.by_order)
                    heappush(group.by_order, entry._replace(at=end))
                elif is_allowed(entry.camera):
                    return True, entry
                else:
                    refused.append(heappop(group.by_order))
        finally:
            for entry in refused:
                heappush(group.by_order, entry)
        return None

    def _top(self, heap: list[_QueueEntry]) -> _QueueEntry | None:
        """Return the first entry of a heap that is not outdated."""
        while heap:
            if self._is_current(heap[0]):
                return heap[0]
            heappop(heap)
        return None

    def _is_current(self, entry: _QueueEntry) -> bool:
        turn = self._turns.get(entry.camera)
        return turn is not None and turn.is_waiting and (turn.position, turn.ticket) == (entry.position, entry.ticket)

    def _push(self, camera: str, turn: _Turn) -> None:
        """Replace the entries of a waiting camera."""
        turn.ticket += 1
        group = turn.group
        for heap, at in ((group.by_order, self._start(turn) + turn.cost), (group.by_service, turn.served)):
            if len(heap) > 2 * len(group.waiting) + _MAX_OUTDATED:
                heap[:] = filter(self._is_current, heap)
                heapify(heap)
            heappush(heap, _QueueEntry(at, turn.position, turn.ticket, camera))

    def _start(self, turn: _Turn) -> float:
        """Return the virtual time at which the camera's next image starts.

        A late camera may catch up by at most `MAX_CATCH_UP` images, so an idle camera sends no long burst.
        """
        return max(turn.finish, self._virtual - MAX_CATCH_UP * turn.cost)

    def serve(self, camera: str, now: float) -> None:
        """Count the image of a waiting camera as sent."""
        turn = self._turns[camera]
        start = self._start(turn)
        if now - turn.served <= MAX_STARVED_S:  # a starved camera is served before its turn
            self._virtual = max(self._virtual, start)
        turn.finish, turn.served, turn.is_waiting = start + turn.cost, now, False
        turn.group.waiting.pop(camera, None)
