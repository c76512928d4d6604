"""Filters for decoded frames that should not be shown. Perform no I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_AVERAGE_S: Final = 3.0  # the share of corrupt frames is an average over this time
_USUAL_STEP_S: Final = 0.04  # assumed time between frames without media times
_MAX_WEIGHT: Final = 0.15  # maximum weight of one frame; a few damaged keyframes in a row do not make damage frequent
# Damage is no longer rare when the share of damaged frames rises above the first value. It is rare again when the share
# falls below the second value.
_OFTEN_SHARE: Final = 0.65
_RARE_SHARE: Final = 0.5
# Limits for withholding frames that the decoder reports as damaged although no packet was lost.
_UNEXPLAINED_SHARE: Final = 0.04
_MAX_UNEXPLAINED: Final = 50.0  # initial and maximum allowance in frames: two seconds at 25 fps, a common GOP length
_MAX_IN_DECODER: Final = 64  # number of packets whose frames the decoder may still hold; H.264 and H.265 allow 16


class Withheld(StrEnum):
    """Reason why a decoded frame should not be shown. A member of this class replaces the frame."""

    TORN = "torn"  # this frame, or a frame on which it builds, was damaged in transit
    REFRESHING = "refreshing"  # the camera sends no keyframes and has not yet renewed the whole image


class CorruptFrameFilter:
    """Filter that withholds frames damaged in transit, for example over UDP.

    The decoder conceals a damaged part with nearby pixels, and marks only that frame as corrupt. Frames that build on
    it also show the damage, until the next keyframe. If damage is rare, the filter withholds all these frames. If most
    frames show damage, it withholds none, because damaged frames are better than no frames.
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

        `is_whole` means that the frame builds on no damaged frame, although it is not a keyframe. `media_s` is the
        frame's media time; None if unknown.
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
    """Allowance of frames to withhold when the decoder reports damage although no packet was lost.

    The camera or the link may cause this kind of damage all the time, and most of these frames look intact. The caller
    therefore withholds only a small share of the frames.
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
    """Tracker of frames that build on lost packets. Packets arrive in decoding order, and frames in presentation order.

    `pts` is the presentation time that a packet shares with its frame.
    """

    def __init__(self) -> None:
        self.is_torn = False  # whether packets from now on build on lost packets
        self._in_decoder: dict[int, bool] = {}  # by `pts`: whether the packet's frame builds on lost packets
        # `pts` of a keyframe after a loss; frames with an earlier `pts` are damaged
        self._torn_before: int | None = None

    def push(self, pts: int | None, *, is_entry: bool, is_incomplete: bool, follows_loss: bool) -> None:
        """Record a packet before the decoder receives it.

        `is_entry` means that the packet builds on no earlier packet. The other properties are those of `Packet`.
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
