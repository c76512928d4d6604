"""Movement as the sizes of packets betray it: a hint to look sooner, and never more. Pure.

A camera of a variable bit rate sends more while something moves. One of a constant bit rate does not, so that usual
sizes mean nothing.
"""

from __future__ import annotations

from typing import Final

_FOLLOWS_PACKETS: Final = 100
_LEARNS_PACKETS: Final = 25
_DEVIATIONS: Final = 5.0
_SHARE: Final = 0.6  # larger than usual by so much at least
_IN_A_ROW: Final = 3


class PacketSizes:
    """Of one stream, keyframes left out."""

    def __init__(self) -> None:
        self._seen = 0
        self._usual = 0.0
        self._deviation = 0.0
        self._large = 0  # in a row

    def unusual(self, size_bytes: int) -> bool:
        """Whether this packet and those before it are larger than is usual."""
        self._seen += 1
        weight = 1 / min(self._seen, _FOLLOWS_PACKETS)
        by = size_bytes - self._usual
        learned = self._seen > _LEARNS_PACKETS
        self._large = self._large + 1 if learned and by > self._much else 0
        self._usual += weight * by
        self._deviation += weight * (abs(by) - self._deviation)
        return self._large >= _IN_A_ROW

    @property
    def _much(self) -> float:
        return max(_DEVIATIONS * self._deviation, _SHARE * self._usual)
