"""What to do with the packets of a camera of `when: motion`. Pure, but that it holds packets: facts in, actions out.

While nothing moves, only keyframes are looked at, each on its own, and everything since is held, compressed. When a
look shows movement, what is held is decoded after all, so that the time before the alarm is sent, too.

Where keyframes are too rare for that, too much comes between two of them, or pictures are owed more often, leaving
packets undecoded would miss something: what is held is then decoded, and the rest of the group of pictures as it comes,
and looked at some times a second. For a camera that is most of the cost of sending everything; a keyframe interval of a
few seconds at most mends it. Packets of unusual size are a reason to look so, too: somebody may come and go between two
keyframes.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from workers.camera.hold import Hold
from workers.camera.motion import MotionGate
from workers.camera.packet_sizes import PacketSizes
from workers.camera.planner import Planner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvision_hub.config import Camera
    from workers.camera.source import Packet

BEFORE_S: Final = 1.0  # sent of the time before the look that showed nothing yet: what moves may begin small
KEYFRAMES_EVERY_S: Final = 0.95  # one a second is looked at, more often says no more
OWN_PICTURES_EVERY_S: Final = 0.45  # of cameras whose every packet is a picture
RARE_S: Final = 4.0  # keyframes further apart than that are no eye
FOLLOWED_EVERY_S: Final = 0.4


class Watch(Enum):
    """What to do with one packet while nothing moves."""

    LOOK = "look"  # decode it alone and look at it
    HOLD = "hold"
    FOLLOW = "follow"  # decode it, after whatever is held since the last keyframe
    DROP = "drop"  # nothing can come of it: the chain back to a keyframe is broken


class Sentry:
    """One open stream's. All times are capture times in monotonic seconds."""

    def __init__(self, camera: Camera) -> None:
        motion = camera.motion
        self.moving = True  # nothing is known yet: rather some pictures too many than a moment missed
        self._gate = MotionGate(sensitivity=motion.sensitivity, ignore=(*motion.ignore, *camera.masks))
        self._calm_after_s = motion.calm_after
        self._idle_period_s = 1 / motion.idle_fps
        self._idle = Planner(motion.idle_fps)
        self._hold = Hold()
        self._sizes = PacketSizes()
        self._following = False  # every packet since the last keyframe was decoded
        self._moved: float | None = None  # when something last moved, or the stream began
        self._looked = float("-inf")
        self._looked_before = float("-inf")

    def consider(self, packet: Packet, at: float, gop_s: float | None) -> Watch:
        """While nothing moves: what to do with the next packet, captured at `at`."""
        if packet.keyframe:
            self._following = False
            return self._consider_keyframe(packet, at, gop_s)
        if self._following:
            return Watch.FOLLOW
        self._hold.add(packet, at)
        if not self._hold:
            return Watch.DROP
        unusual = self._sizes.unusual(packet.size_bytes)
        if unusual or self._hold.full or at - self._looked > RARE_S or self._keyframes_too_rare(gop_s):
            self._following = True
            return Watch.FOLLOW
        return Watch.HOLD

    def _consider_keyframe(self, packet: Packet, at: float, gop_s: float | None) -> Watch:
        every_s = KEYFRAMES_EVERY_S
        if gop_s is not None and gop_s < OWN_PICTURES_EVERY_S:
            every_s = OWN_PICTURES_EVERY_S
        self._hold.add(packet, at)
        if at - self._looked >= min(every_s, self._idle_period_s):
            return Watch.LOOK
        return Watch.HOLD

    def _keyframes_too_rare(self, gop_s: float | None) -> bool:
        return gop_s is not None and (gop_s > RARE_S or gop_s > self._idle_period_s)

    def followed(self, packet: Packet) -> list[Packet]:
        """What to decode for `FOLLOW`: all since the keyframe where this packet is the first to be, else it alone."""
        held = self._hold.since_keyframe()
        self._hold.release()
        return held or [packet]

    def due(self, at: float) -> bool:
        """Whether a picture that is decoded anyway is to be looked at."""
        return at - self._looked >= FOLLOWED_EVERY_S

    def look(self, luma: NDArray[np.float32], at: float) -> bool:
        """Look at a picture; whether movement begins with it: then ask for `alarm`."""
        self._looked_before, self._looked = self._looked, at
        moved = self._gate.look(luma, at, moving=self.moving)
        if moved or self._moved is None:
            self._moved = at
        began = moved and not self.moving
        if began:
            self.moving = True
        elif not self.moving:
            self._idle.learn(at, keyframe=True)
            self._hold.trim(at - BEFORE_S)
        return began

    def alarm(self) -> tuple[float, list[Packet]]:
        """From when on pictures are to be sent, and what to decode for them: all that is held."""
        self._following = False
        return self._looked_before - BEFORE_S, self._hold.release()

    def owed(self, at: float) -> bool:
        """While nothing moves: whether a decoded picture is to be sent; if so, it has been accounted for."""
        return self._idle.owed(at)

    def calm(self, at: float) -> bool:
        """Whether nothing has moved for long enough; to be asked at keyframes, where stillness can begin."""
        return self.moving and self._moved is not None and at - self._moved > self._calm_after_s

    def rest(self) -> None:
        """From the next packet, a keyframe, on nothing moves."""
        self.moving = False
        self._looked = float("-inf")
