"""Motion gate for cameras with `when: motion`. Performs no I/O.

During motion and the cooldown after it, the gate is open and packets go to the planner. Otherwise, the gate is closed:
it decodes only keyframes, each separately, and buffers the compressed packets that follow. When a keyframe shows
motion, the gate opens and releases its buffer. The hub thus also sends the second before the motion (pre-roll).

In these cases, the closed gate returns every packet for decoding and checks a few frames per second:

- Keyframes are more than `MAX_KEYFRAME_INTERVAL_S` or more than one period of `idle_fps` apart.
- A GOP is too large to buffer.
- Packets are unusually large, which indicates motion between two keyframes.
- The camera sends no keyframes but renews the image gradually.

Decoding all packets costs almost as much CPU time as `when: always`. A shorter keyframe interval usually avoids this.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final

from nvision_hub.media.decode.decode_planner import NOTHING, DecodeBatch, Planner
from nvision_hub.media.decode.gop_buffer import GopBuffer
from nvision_hub.media.decode.motion_detector import MotionDetector, small_luma

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources import Packet

# Counted back from the last check without motion, because that check may have missed small motion.
PRE_ROLL_S: Final = 1.0
KEYFRAME_CHECK_INTERVAL_S: Final = 0.95  # more than one check per second reveals no additional motion
INTRA_CHECK_INTERVAL_S: Final = 0.45  # for cameras that send keyframes more often than this
MAX_KEYFRAME_INTERVAL_S: Final = 4.0  # above this interval, keyframes are too sparse for motion detection
FRAME_CHECK_INTERVAL_S: Final = 0.4  # while the pipeline decodes every packet
_MAX_RECENT_FRAMES: Final = 3


class MotionGate:
    """Motion gate of one stream. All times are capture times in monotonic seconds."""

    checks_frames: ClassVar = True  # whether the closed gate needs frames to detect motion

    def __init__(self, camera: Camera) -> None:
        motion = camera.motion
        # The gate starts open, because a few unnecessary frames are better than missed motion.
        self.is_open = True
        self._detector = MotionDetector(sensitivity=motion.sensitivity, ignore=(*motion.ignore, *camera.masks))
        self._cooldown_s = motion.cooldown
        self._idle_period_s = 1 / motion.idle_fps
        self._idle = Planner(motion.idle_fps)
        self._buffer = GopBuffer()
        self._recent: deque[tuple[Any, float]] = deque(maxlen=_MAX_RECENT_FRAMES)
        self._sizes = PacketSizes()
        self._decodes_all = False  # whether every packet since the last keyframe was decoded
        self._moved: float | None = None  # time of the last motion, or else of the first check; None before any check
        self._checked = float("-inf")
        self._checked_before = float("-inf")

    def passes(self, packet: Packet, at: float) -> bool:
        """Return whether a packet goes to the planner. The first keyframe after the cooldown closes the gate."""
        is_entry = packet.keyframe or packet.begins_refresh
        if self.is_open and is_entry and self._moved is not None and at - self._moved > self._cooldown_s:
            self.is_open = False
            self._checked = float("-inf")
        return self.is_open

    def push(self, packet: Packet, at: float, gop_s: float | None) -> DecodeBatch:
        """Buffer a packet that did not pass. Return the packets to decode and check for motion now."""
        if packet.keyframe:
            self._decodes_all = False
            self._buffer.push(packet, at)
            is_intra = gop_s is not None and gop_s < INTRA_CHECK_INTERVAL_S
            interval_s = INTRA_CHECK_INTERVAL_S if is_intra else KEYFRAME_CHECK_INTERVAL_S
            is_due = at - self._checked >= min(interval_s, self._idle_period_s)
            return DecodeBatch(packets=(packet,), is_alone=True) if is_due else NOTHING
        if self._decodes_all:
            return DecodeBatch(packets=(packet,))
        self._buffer.push(packet, at)
        if not self._buffer:
            if not packet.begins_refresh:
                return NOTHING  # the keyframe of this packet was lost
            self._decodes_all = True
            return DecodeBatch(packets=(packet,), after_gap=True)
        is_unusual = self._sizes.is_unusual(packet.size_bytes)
        is_keyframe_late = at - self._checked > MAX_KEYFRAME_INTERVAL_S
        is_gop_long = gop_s is not None and gop_s > min(MAX_KEYFRAME_INTERVAL_S, self._idle_period_s)
        if not (is_unusual or self._buffer.is_full or is_keyframe_late or is_gop_long):
            return NOTHING
        self._decodes_all = True
        packets = self._buffer.last_gop()
        self._buffer.pop_all()
        return DecodeBatch(packets=packets, after_gap=True)

    def is_check_due(self, at: float) -> bool:
        """Return whether to check for motion in a frame that is decoded for another reason."""
        return at - self._checked >= FRAME_CHECK_INTERVAL_S

    def check(self, frame: Any, at: float) -> bool | None:
        """Return whether this frame opens the gate; None for a broken JPEG. If True, the caller must call `release`."""
        luma = small_luma(frame)
        if luma is None:
            return None
        if self._decodes_all and not self.is_open:
            self._recent.append((frame, at))
        self._checked_before, self._checked = self._checked, at
        has_moved = self._detector.check(luma, at, is_moving=self.is_open)
        if has_moved or self._moved is None:
            self._moved = at
        if self.is_open:
            return False
        if has_moved:
            self.is_open = True
        else:
            self._idle.observe(at, keyframe=True)
            self._buffer.trim(at - PRE_ROLL_S)
        return has_moved

    def release(self) -> tuple[float, Sequence[tuple[Any, float]], DecodeBatch]:
        """Empty the buffer after the gate has opened. Return the pre-roll without the packet that was just checked.

        The tuple contains the start time of the pre-roll, its decoded frames with their capture times, and its packets
        that are not decoded yet.
        """
        frames = tuple(self._recent) if self._decodes_all else ()
        self._recent.clear()
        self._decodes_all = False
        packets = self._buffer.pop_all()[:-1]
        batch = DecodeBatch(packets=packets, after_gap=True) if packets else NOTHING
        return self._checked_before - PRE_ROLL_S, frames, batch

    def accept(self, at: float) -> bool:
        """Return whether a frame is due while the gate is closed. Count a due frame as sent."""
        return self._idle.accept(at)


_FOLLOWED_PACKETS: Final = 100
_LEARNED_PACKETS: Final = 25
_DEVIATIONS: Final = 5.0
_EXCESS: Final = 0.6  # excess over the usual size, as a fraction of it
_PACKETS_IN_A_ROW: Final = 3


class PacketSizes:
    """Usual packet size of one stream without keyframes. Larger packets are a reason to check for motion earlier.

    This works only with a variable bitrate. With a constant bitrate, packet sizes do not indicate motion.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._usual = 0.0
        self._deviation = 0.0
        self._large = 0  # number of consecutive large packets

    def is_unusual(self, size_bytes: int) -> bool:
        """Learn a packet's size. Return whether this packet and the ones just before it are larger than usual."""
        self._seen += 1
        weight = 1 / min(self._seen, _FOLLOWED_PACKETS)
        excess = size_bytes - self._usual
        threshold = max(_DEVIATIONS * self._deviation, _EXCESS * self._usual)
        self._large = self._large + 1 if self._seen > _LEARNED_PACKETS and excess > threshold else 0
        self._usual += weight * excess
        self._deviation += weight * (abs(excess) - self._deviation)
        return self._large >= _PACKETS_IN_A_ROW
