"""Capture times of frames on this machine's monotonic clock, derived from their media times.

A packet arrives at its capture time plus a varying delay. The smallest recent delay comes from the camera and the
network. Any additional delay comes from a queue, such as a backlog in socket buffers. Only this additional delay counts
as a frame's age. The capture time is therefore the media time plus the smallest recent (arrival - media time).

If the smallest delay grows, the clock attributes the growth to the network only if the reader had to wait for packets.
If the machine is slightly too slow, the reader hardly waits, and the queue may never empty. Without this rule, the
clock would mistake more and more of that queue for network delay.
"""

from __future__ import annotations

from typing import Final

# The window is long enough to contain a moment without a queue, and short enough to follow the drift of a camera's
# clock. A delay that never shrinks again comes from the network, and must not make all frames late.
WINDOW_S: Final = 10.0
_MIN_WAITED: Final = 0.2  # minimum share of a window that the reader must have spent waiting for packets
_MAX_AHEAD_S: Final = 2.0
# Media times may go back this far, because packets arrive in decoding order (16 frames; H.264, A.3.1).
MAX_BACK_S: Final = 1.0


class MediaClock:
    """Clock of one stream. Times are in seconds: `media` is the stream's own time, and all others are monotonic."""

    def __init__(self) -> None:
        self._began = float("-inf")  # start of the current window
        self._waited_s = 0.0  # time waited in the current window
        self._min_delay = float("inf")  # smallest delay in the current window
        self._previous_min_delay = float("inf")  # smallest delay in the previous window
        # Media time of the previous packet; with this initial value, the first packet counts as a jump.
        self._media = float("-inf")
        self._arrival = 0.0  # arrival time of the previous packet

    def update(self, media: float | None, arrival: float, *, waited_s: float = float("inf")) -> float:
        """Add a packet for which the reader waited `waited_s` seconds. Return the packet's capture time.

        The capture time of a packet without a media time is its arrival time.
        """
        if media is None:
            return arrival
        delay, ahead = arrival - media, media - self._media
        # A backlog cannot move media times back, nor advance them by more than the time that has passed.
        has_jumped = ahead < -MAX_BACK_S or ahead > max(0.0, arrival - self._arrival) + _MAX_AHEAD_S
        is_window_over = arrival - self._began >= WINDOW_S
        if has_jumped:
            self._min_delay, self._previous_min_delay = delay, float("inf")
        elif is_window_over and self._waited_s >= _MIN_WAITED * WINDOW_S:
            self._min_delay, self._previous_min_delay = delay, self._min_delay
        else:
            self._min_delay = min(self._min_delay, delay)
        if has_jumped or is_window_over:
            self._began, self._waited_s = arrival, 0.0
        else:
            self._waited_s += waited_s
        self._media, self._arrival = media, arrival
        return self.captured(media, arrival)

    def captured(self, media: float | None, arrival: float) -> float:
        """Return the capture time of a frame with this media time; `arrival` if the stream has no media times."""
        return arrival if media is None else min(arrival, media + min(self._min_delay, self._previous_min_delay))
