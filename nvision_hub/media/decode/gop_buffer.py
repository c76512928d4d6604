"""Bounded buffer of whole GOPs for packets that were not decoded but may still be needed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nvision_hub.media.sources import Packet

MAX_BUFFERED_BYTES: Final = 8 * 2**20  # nearly 17 s of video at 4 Mbit/s


class GopBuffer:
    """Buffer of GOPs in stream order. Capture times are monotonic seconds."""

    def __init__(self) -> None:
        self._gops: deque[list[tuple[float, Packet]]] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._gops)

    @property
    def is_full(self) -> bool:
        """Whether the buffer exceeds `MAX_BUFFERED_BYTES`. After `push`, only a single GOP can exceed this limit."""
        return self._bytes > MAX_BUFFERED_BYTES

    def push(self, packet: Packet, at: float) -> None:
        """Add a packet captured at `at`. While the buffer is full, remove the oldest GOP, but never the newest GOP.

        The buffer ignores a packet whose `lasting` is False. While the buffer is empty, it accepts only a keyframe.
        """
        if not packet.lasting or not (packet.keyframe or self._gops):
            return
        if packet.keyframe:
            self._gops.append([])
        self._gops[-1].append((at, packet))
        self._bytes += packet.size_bytes
        while self.is_full and len(self._gops) > 1:
            self._remove_gop()

    def trim(self, before: float) -> None:
        """Remove the GOPs that end before `before`, but never the newest GOP."""
        while len(self._gops) > 1 and self._gops[1][0][0] <= before:
            self._remove_gop()

    def last_gop(self) -> list[Packet]:
        """Return the packets of the newest GOP."""
        return [packet for _, packet in self._gops[-1]] if self._gops else []

    def pop_all(self) -> list[Packet]:
        packets = [packet for gop in self._gops for _, packet in gop]
        self._gops.clear()
        self._bytes = 0
        return packets

    def _remove_gop(self) -> None:
        self._bytes -= sum(packet.size_bytes for _, packet in self._gops.popleft())
