"""Decoded frames that should not be shown. Performs no I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_AVERAGE_S: Final = 3.0  # the share of corrupt frames is an average over this time
_USUAL_STEP_S: Final = 0.04  # assumed time between frames without media times
_MAX_WEIGHT: Final = 0.15  # of one frame; a few damaged keyframes in a row do not make damage frequent
# Damage stops counting as rare when the share of damaged frames rises above the first value, and counts as rare again
# when the share falls below the second value.
_OFTEN_SHARE: Final = 0.65
_RARE_SHARE: Final = 0.5
# Limits of the frames withheld for damage without lost packets.
_UNEXPLAINED_SHARE: Final = 0.04
_MAX_UNEXPLAINED: Final = 50.0  # initial and largest allowance, in frames: two seconds at 25 fps, a usual GOP
_MAX_IN_DECODER: Final = 64  # packets whose frames the decoder may still hold; H.264 and H.265 allow 16


class Withheld(StrEnum):
    """Reason why a decoded frame should not be shown. It stands in place of the frame."""

    TORN = "torn"  # the frame, or a frame that it builds on, was damaged in transit
    REFRESHING = "refreshing"  # the camera sends no keyframes, and has not yet renewed the whole image


class CorruptFrameFilter:
    """Filter that withholds frames damaged in transit, for example over UDP.

    The decoder fills a damaged part from nearby pixels and marks only that frame as corrupt. Frames that build on the
    corrupt frame show the damage as well, until the next keyframe. If damage is rare, the filter withholds all of these
    frames. If most frames show damage, damaged frames are better than none, so the filter withholds none.
    """

    def __init__(self) -> None:
        self.is_torn = False  # whether frames show damage until the next keyframe
        self.is_rare = True  # whether few of the recent frames show damage
        self._share = 0.0  # share of the recent frames that show damage
        self._media_s: float | None = None  # media time of the last frame

    def should_withhold(
        self, *, corrupt: bool, keyframe: bool, is_whole: bool = False, media_s: float | None = None
    ) -> bool:
        """Return whether to withhold the next decoded frame.

        `is_whole`: the frame does not build on damaged frames, although it is no keyframe. `media_s` is the frame's
        media time; None if unknown.
        """
        if corrupt or keyframe or is_whole:
            self.is_torn = corrupt
        step_s = _USUAL_STEP_S if media_s is None or self._media_s is None else max(0.0, media_s - self._media_s)
        self._media_s = media_s
        self._share += min(_MAX_WEIGHT, step_s / _AVERAGE_S) * (self.is_torn - self._share)
        if self._share > _OFTEN_SHARE:
            self.is_rare = False
        elif self._share < _RARE_SHARE:
            self.is_rare = True
        return self.is_torn and self.is_rare


class UnexplainedDamage:
    """Allowance of frames to withhold because the decoder reports damage, although no packet was lost.

    The camera or the link may cause such damage all the time, and most of these frames look intact. Therefore, only a
    small share of the frames is withheld.
    """

    def __init__(self) -> None:
        self._allowance = _MAX_UNEXPLAINED

    def may_withhold(self, *, damaged: bool) -> bool:
        """Return whether to withhold the next decoded frame."""
        self._allowance = min(_MAX_UNEXPLAINED, self._allowance + _UNEXPLAINED_SHARE)
        if not damaged or self._allowance < 1:
            return False
        self._allowance -= 1
        return True


class LossTracker:
    """Tracker of frames that build on lost packets. Packets come in decoding order, and frames in presentation order.

    `pts` is the presentation time that a packet and its frame have in common.
    """

    def __init__(self) -> None:
        self.is_torn = False  # whether the packets from now on build on lost packets
        self._in_decoder: dict[int, bool] = {}  # whether a packet's frame builds on lost packets
        self._torn_before: int | None = None  # `pts` of a keyframe after a loss; frames shown before it are damaged

    def push(self, pts: int | None, *, is_entry: bool, is_incomplete: bool, follows_loss: bool) -> None:
        """Learn from a packet before the decoder receives it.

        `is_entry`: the packet builds on no earlier packet. The other properties are those of `Packet`.
        """
        was_torn = self.is_torn or follows_loss
        self.is_torn = was_torn or is_incomplete
        if is_entry and not is_incomplete:
            self.is_torn, self._torn_before = False, pts if was_torn else None
        if pts is not None:
            is_leading = self._torn_before is not None and pts < self._torn_before
            self._in_decoder[pts] = self.is_torn or is_leading
            if len(self._in_decoder) > _MAX_IN_DECODER:
                del self._in_decoder[next(iter(self._in_decoder))]

    def restart(self) -> None:
        """Forget earlier packets, because the decoder has been flushed."""
        self.is_torn, self._torn_before = False, None
        self._in_decoder.clear()

    def pop(self, pts: int | None) -> bool:
        """Return whether the next decoded frame builds on lost packets."""
        return self.is_torn if pts is None else self._in_decoder.pop(pts, self.is_torn)
