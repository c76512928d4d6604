"""Motion gate for cameras that report motion themselves (`motion.source: onvif`). Performs no I/O.

While the camera reports no motion, the closed gate buffers compressed packets and returns nothing to decode. When the
camera reports motion, the gate opens at the next packet and releases its buffer. The hub thus also sends the second
before the motion (pre-roll). If a GOP is too large to buffer, the gate opens at the next keyframe instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from nvision_hub.media.decode.decode_planner import NOTHING, DecodeBatch
from nvision_hub.media.decode.gop_buffer import GopBuffer
from nvision_hub.media.decode.motion_gate import PRE_ROLL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvision_hub.media.sources import Packet


class EventGate:
    """Gate of one stream. `moved_at(now)` returns the time of the last motion, or `now` while motion lasts.

    `at` is a capture time. All times are monotonic seconds.
    """

    checks_frames: ClassVar = False

    def __init__(self, *, cooldown_s: float, moved_at: Callable[[float], float]) -> None:
        # The gate starts open, because after connecting, the camera may report current motion with a delay.
        self.is_open = True
        self._cooldown_s = cooldown_s
        self._moved_at = moved_at
        self._opened: float | None = None  # arrival time of the first packet; None before the first packet
        self._closed = float("-inf")  # arrival time of the packet that closed the gate
        self._buffer = GopBuffer()
        self._begin = 0.0  # capture time at which the pre-roll begins
        self._has_opener = False  # whether the packet that opened the gate belongs to the pre-roll

    def passes(self, packet: Packet, _at: float) -> bool:
        """Return whether a packet goes to the planner. The first keyframe after the cooldown closes the gate."""
        now = packet.arrived
        if self._opened is None:
            self._opened = now
        if self.is_open and packet.keyframe and now - max(self._moved_at(now), self._opened) > self._cooldown_s:
            self.is_open, self._closed = False, now
        return self.is_open

    def push(self, packet: Packet, at: float, _gop_s: float | None) -> DecodeBatch | None:
        """Buffer a packet that did not pass. If the gate opens, return None; the caller must then call `release`."""
        self._buffer.push(packet, at)
        self._buffer.trim(at - PRE_ROLL_S)
        if self._buffer.is_full:
            self._buffer.pop_all()
        if self._moved_at(packet.arrived) > self._closed and (packet.keyframe or self._buffer):
            self.is_open, self._begin, self._has_opener = True, at - PRE_ROLL_S, not packet.keyframe
            return None
        return NOTHING

    def release(self) -> tuple[float, Sequence[tuple[Any, float]], DecodeBatch]:
        """Empty the buffer after the gate has opened, and return the pre-roll in the form of `MotionGate.release`.

        If the packet that opened the gate is not a keyframe, it ends the pre-roll, because it builds on the packets
        before it.
        """
        packets = self._buffer.pop_all()
        if not self._has_opener:
            packets = packets[:-1]
        return self._begin, (), DecodeBatch(packets=packets, after_gap=True) if packets else NOTHING

    def is_check_due(self, _at: float) -> bool:
        """Return False, because the gate needs no frames."""
        return False

    def check(self, _frame: Any, _at: float) -> bool | None:
        """Return None, because the gate needs no frames."""

    def accept(self, _at: float) -> bool:
        """Return False, because nothing is sent while the gate is closed."""
        return False
