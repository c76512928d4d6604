"""Account of the sent frames. Each frame is either answered, given up for one reason, or in flight.

This equation holds in every status report of a worker:

    frames_sent_total = frames_answered_total + frames_unanswered_total{reason} + frames_in_flight
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from nvision_hub.metrics import catalogue

if TYPE_CHECKING:
    from nvision_hub.metrics.meter import Meter
    from nvision_hub.nvision.result_events import SentFrame

MAX_FRAMES: Final = 1_000
# Settled frames to remember, which lets the worker distinguish late and duplicate results from unknown results.
MAX_SETTLED: Final = 500


class InFlightFrames:
    """Frames in flight, in the order in which the uplink sent them."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._sent: dict[str, SentFrame] = {}
        self._last_answered = 0  # sequence number of the newest answered frame
        # By frame id: the reason for which another result would be lost.
        self._settled: OrderedDict[str, str] = OrderedDict()
        meter.set_gauge(catalogue.FRAMES_IN_FLIGHT, 0)

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def lag(self) -> int:
        """Number of frames newer than the newest answered frame. The service may have skipped older frames."""
        newest_first = reversed(self._sent.values())
        return sum(1 for _ in takewhile(lambda sent: sent.sequence > self._last_answered, newest_first))

    def add(self, sent: SentFrame) -> None:
        """Add a frame that is about to be sent. From this point on, the service may charge for the frame."""
        self._sent[sent.frame_id] = sent
        self._meter.count(catalogue.FRAMES_SENT_TOTAL)
        self._meter.count(catalogue.SENT_BYTES_TOTAL, sent.jpeg_bytes)
        self._meter.set_gauge(catalogue.FRAMES_IN_FLIGHT, len(self._sent))

    def pop(self, frame_id: str) -> SentFrame | None:
        """Remove and return the frame of a result (the oldest frame if `frame_id` is empty); None if there is none."""
        if not frame_id and self._sent:
            frame_id = next(iter(self._sent))
        sent = self._sent.pop(frame_id, None)
        if sent is not None:
            self._last_answered = max(self._last_answered, sent.sequence)
            self._meter.count(catalogue.FRAMES_ANSWERED_TOTAL)
            self._settle(frame_id, "duplicate")
        return sent

    def skip(self, frame_id: str) -> SentFrame | None:
        """Give up a frame that the service has skipped. Return the frame; None if it was not in flight."""
        sent = self._sent.pop(frame_id, None)
        if sent is not None:
            self._meter.count(catalogue.FRAMES_UNANSWERED_TOTAL, reason="skipped")
            self._settle(frame_id, "late")
        return sent

    def unmatched_reason(self, frame_id: str) -> str:
        """Return why no frame in flight has this id: `late`, `duplicate` or `unknown_frame`."""
        return self._settled.get(frame_id, "unknown_frame")

    def expire(self, before: float, reason: str) -> None:
        """Give up frames sent before the monotonic time `before`, and the oldest frames in excess of `MAX_FRAMES`."""
        for frame_id, sent in list(self._sent.items()):
            if sent.sent_mono >= before and len(self._sent) <= MAX_FRAMES:
                break  # the remaining frames are newer
            del self._sent[frame_id]
            self._meter.count(catalogue.FRAMES_UNANSWERED_TOTAL, reason=reason)
            self._settle(frame_id, "late")

    def clear(self, reason: str) -> None:
        """Give up all frames."""
        self.expire(float("inf"), reason)

    def _settle(self, frame_id: str, answer: str) -> None:
        self._settled[frame_id] = answer
        if len(self._settled) > MAX_SETTLED:
            self._settled.popitem(last=False)
        self._meter.set_gauge(catalogue.FRAMES_IN_FLIGHT, len(self._sent))
