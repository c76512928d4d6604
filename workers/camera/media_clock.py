"""When a picture was captured, on this machine's monotonic clock, told from its media time.

A packet's arrival is its capture plus a delay that varies; the smallest delay seen lately is the camera's and the
network's own, and every later one is queueing. So capture = media time + the smallest (arrival - media time), and a
backlog shows as age instead of hiding in socket buffers.
"""

from __future__ import annotations

from typing import Final

# A camera's crystal may run off by some hundred ppm; letting the offset rise by a little more follows it.
DRIFT_PER_S: Final = 0.001
JUMP_S: Final = 2.0


class MediaClock:
    """Times in seconds; `media` is the stream's own, everything else monotonic."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._media = 0.0
        self._arrival = 0.0

    def note(self, media: float | None, arrival: float) -> float:
        """Take a packet's arrival into account; when it was captured. A stream without times is taken as it comes."""
        if media is None:
            return arrival
        if self._offset is None or self._jumped(media, arrival):
            self._offset = arrival - media
        else:
            risen = self._offset + DRIFT_PER_S * max(0.0, arrival - self._arrival)
            self._offset = min(risen, arrival - media)
        self._media, self._arrival = media, arrival
        return media + self._offset

    def captured(self, media: float | None, arrival: float) -> float:
        """When the picture with this media time was captured; `arrival` where the stream has no times."""
        return arrival if media is None or self._offset is None else min(arrival, media + self._offset)

    def _jumped(self, media: float, arrival: float) -> bool:
        """Whether the stream's clock was set: back, or ahead by more than has passed. A backlog does neither."""
        ahead = media - self._media
        return ahead < -JUMP_S or ahead > max(0.0, arrival - self._arrival) + JUMP_S
