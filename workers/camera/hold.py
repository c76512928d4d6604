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
        self._keyframes = 0

    def __bool__(self) -> bool:
        return bool(self._packets)

    @property
    def full(self) -> bool:
        """Whether a single group of pictures is more than there is room for."""
        return self._bytes > HELD_MAX_BYTES

    def add(self, packet: Packet, at: float) -> None:
        """Keep one more, unless it does not last or builds on what is not here. The oldest groups make room for it."""
        if not packet.lasting or not (packet.keyframe or self._packets):
            return
        self._packets.append((at, packet))
        self._bytes += packet.size_bytes
        self._keyframes += packet.keyframe
        while self.full and self._keyframes > 1:
            self._forget_group()

    def trim(self, reach: float) -> None:
        """Let go of the groups of pictures that end before `reach`."""
        later = [at for at, packet in self._packets if packet.keyframe and at <= reach]
        while later and self._packets[0][0] < later[-1]:
            self._forget_group()

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
        self._bytes = self._keyframes = 0
        return packets

    def _forget_group(self) -> None:
        while True:
            _, packet = self._packets.popleft()
            self._bytes -= packet.size_bytes
            self._keyframes -= packet.keyframe
            if not self._packets or self._packets[0][1].keyframe:
                return
