"""When a picture was captured, on this machine's monotonic clock, told from its media time.

A packet's arrival is its capture plus a delay that varies; the smallest delay seen lately is the camera's and the
network's own, and every later one is queueing. So capture = media time + the smallest (arrival - media time), and a
backlog shows as age instead of hiding in socket buffers.

A smallest delay that grows is the way's only if packets were waited for. Whoever hardly waits may have a queue of its
own that never empties: on a machine that is a little too slow, it would else be believed, a little more each time.
"""

from __future__ import annotations

from typing import Final

# Long enough to hold a moment without queueing, short enough to follow a camera's crystal and whatever else changes:
# a delay that never gets shorter again is the way there, not a queue, and must not keep pictures back for ever.
WINDOW_S: Final = 10.0
WAITED: Final = 0.2  # share of a window
AHEAD_S: Final = 2.0
BACK_S: Final = 1.0  # pictures come in decoding order, up to 16 of them (H.264, A.3.1) before their time


class MediaClock:
    """Times in seconds; `media` is the stream's own, everything else monotonic."""

    def __init__(self) -> None:
        self._began: float | None = None  # the current window; None before the first packet with a time
        self._waited_s = 0.0  # in it
        self._least = float("inf")  # delay in the current window
        self._least_before = float("inf")  # and in the one before it
        self._media = 0.0
        self._arrival = 0.0

    @property
    def _offset(self) -> float:
        return min(self._least, self._least_before)

    def note(self, media: float | None, arrival: float, *, waited_s: float = float("inf")) -> float:
        """Take a packet's arrival into account, for which one has waited; when it was captured.

        A stream without times is taken as it comes.
        """
        if media is None:
            return arrival
        delay = arrival - media
        if self._began is None or self._jumped(media, arrival):
            self._begin(arrival)
            self._least, self._least_before = delay, float("inf")
        elif arrival - self._began < WINDOW_S:
            self._waited_s += waited_s
            self._least = min(self._least, delay)
        elif self._waited_s < WAITED * WINDOW_S:
            self._begin(arrival)
            self._least = min(self._least, delay)
        else:
            self._begin(arrival)
            self._least, self._least_before = delay, self._least
        self._media, self._arrival = media, arrival
        return media + self._offset

    def _begin(self, arrival: float) -> None:
        self._began, self._waited_s = arrival, 0.0

    def captured(self, media: float | None, arrival: float) -> float:
        """When the picture with this media time was captured; `arrival` where the stream has no times."""
        return arrival if media is None or self._began is None else min(arrival, media + self._offset)

    def _jumped(self, media: float, arrival: float) -> bool:
        """Whether the stream's clock was set: back, or ahead by more than has passed. A backlog does neither."""
        ahead = media - self._media
        return ahead < -BACK_S or ahead > max(0.0, arrival - self._arrival) + AHEAD_S
