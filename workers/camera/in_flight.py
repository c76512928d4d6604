"""The account of pictures sent: each is answered, given up for one reason, or still in flight; never two of these.

    frames_sent_total = frames_answered_total + frames_unanswered_total{reason} + frames_in_flight

holds at every moment, so in every status that a worker reports.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import takewhile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nvision_hub.events import Sent
    from nvision_hub.status import Meter

MAX_PICTURES: Final = 1_000
SETTLED_KEPT: Final = 500  # of pictures done with, to tell an answer that comes late or twice from a stranger's
LATE: Final = "late"
DUPLICATE: Final = "duplicate"
UNKNOWN: Final = "unknown_frame"


class InFlight:
    """In the order they were sent."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._sent: dict[str, Sent] = {}
        self._answered_to = 0  # the newest picture that was answered, by its sequence
        self._settled: OrderedDict[str, str] = OrderedDict()  # what an answer to each would be
        self._told()

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def lag(self) -> int:
        """How many pictures are younger than the newest that was answered; those before it may be passed over."""
        return sum(1 for _ in takewhile(lambda sent: sent.sequence > self._answered_to, reversed(self._sent.values())))

    def add(self, sent: Sent) -> None:
        """One picture is handed to the connection: it may arrive from now on, so it may be charged for."""
        self._sent[sent.frame_id] = sent
        self._meter.count("frames_sent_total")
        self._meter.count("sent_bytes_total", sent.jpeg_bytes)
        self._told()

    def answered(self, frame_id: str) -> Sent | None:
        """The picture that a result speaks of, the oldest where it says nothing; None for one not in flight."""
        if not frame_id and self._sent:
            frame_id = next(iter(self._sent))
        sent = self._sent.pop(frame_id, None)
        if sent is not None:
            self._answered_to = max(self._answered_to, sent.sequence)
            self._meter.count("frames_answered_total")
            self._settle(frame_id, DUPLICATE)
        return sent

    def stranger(self, frame_id: str) -> str:
        """Why nothing in flight goes by this name: `late`, `duplicate` or `unknown_frame`."""
        return self._settled.get(frame_id, UNKNOWN)

    def expire(self, before: float, reason: str) -> None:
        """Give up what was sent `before` (monotonic), and the oldest beyond `MAX_PICTURES`."""
        for frame_id, sent in list(self._sent.items()):
            if sent.sent_mono >= before and len(self._sent) <= MAX_PICTURES:
                break  # the rest are younger
            self._give_up(frame_id, reason)

    def clear(self, reason: str) -> None:
        """Give up all."""
        for frame_id in list(self._sent):
            self._give_up(frame_id, reason)

    def _give_up(self, frame_id: str, reason: str) -> None:
        del self._sent[frame_id]
        self._meter.count("frames_unanswered_total", reason=reason)
        self._settle(frame_id, LATE)

    def _settle(self, frame_id: str, answer: str) -> None:
        self._settled[frame_id] = answer
        if len(self._settled) > SETTLED_KEPT:
            self._settled.popitem(last=False)
        self._told()

    def _told(self) -> None:
        self._meter.gauge("frames_in_flight", len(self._sent))
