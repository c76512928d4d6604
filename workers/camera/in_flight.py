"""Pictures that were sent and not yet answered: bounded, aged, and each accounted for once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nvision_hub.events import Sent

ANSWERED_WITHIN_S: Final = 30.0
MAX_PICTURES: Final = 1_000


class InFlight:
    """In the order they were sent."""

    def __init__(self) -> None:
        self._sent: dict[str, Sent] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, sent: Sent) -> None:
        """One picture has left."""
        self._sent[sent.frame_id] = sent

    def answered(self, frame_id: str) -> Sent | None:
        """The picture that a result speaks of, the oldest where it says nothing; None for one that is not ours."""
        if not frame_id and self._sent:
            frame_id = next(iter(self._sent))
        return self._sent.pop(frame_id, None)

    def expire(self, now: float) -> int:
        """Give up those without an answer for too long, and the oldest beyond the bound; how many."""
        given_up = 0
        for frame_id, sent in list(self._sent.items()):
            if now - sent.sent_mono <= ANSWERED_WITHIN_S and len(self._sent) <= MAX_PICTURES:
                break  # the rest are younger
            del self._sent[frame_id]
            given_up += 1
        return given_up

    def clear(self) -> int:
        """Give up all: their connection is gone; how many."""
        given_up = len(self._sent)
        self._sent.clear()
        return given_up
