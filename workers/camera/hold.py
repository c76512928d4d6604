"""Packets that were not decoded and may still be needed, from a keyframe on, bounded in bytes. Knows no codec."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from workers.camera.planner import HELD_MAX_BYTES

if TYPE_CHECKING:
    from workers.camera.source import Packet


class Hold:
    """In stream order, each with its capture time in monotonic seconds. Begins with a keyframe, or is empty."""

    def __init__(self) -> None:
        self._packets: deque[tuple[float, Packet]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._packets)

    def add(self, packet: Packet, at: float) -> bool:
        """Keep one more; False where there is no room for it, or no keyframe to begin with, and all is let go of.

        To make room, the oldest groups of pictures go first.
        """
        if not packet.lasting or not (packet.keyframe or self._packets):
            return False
        self._packets.append((at, packet))
        self._bytes += packet.size_bytes
        while self._bytes > HELD_MAX_BYTES:
            self._forget_oldest()
        return bool(self._packets)

    def trim(self, reach: float) -> None:
        """Let go of the groups of pictures that end before `reach`."""
        later = [at for at, packet in self._packets if packet.keyframe and at <= reach]
        while later and self._packets[0][0] < later[-1]:
            self._forget()

    def since_keyframe(self) -> list[Packet]:
        """All since the last keyframe, which is the first of them."""
        packets: list[Packet] = []
        for _, packet in reversed(self._packets):
            packets.append(packet)
            if packet.keyframe:
                break
        return packets[::-1]

    def release(self) -> list[Packet]:
        """All; nothing is held any more."""
        packets = [packet for _, packet in self._packets]
        self._packets.clear()
        self._bytes = 0
        return packets

    def _forget(self) -> None:
        _, packet = self._packets.popleft()
        self._bytes -= packet.size_bytes

    def _forget_oldest(self) -> None:
        self._forget()
        while self._packets and not self._packets[0][1].keyframe:
            self._forget()
