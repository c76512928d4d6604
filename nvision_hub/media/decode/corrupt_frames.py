"""Decoded frames that should not be shown. Performs no I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_WITHHELD_SHARE: Final = 0.04  # share of the frames that the decoder may withhold in the long run
_MAX_WITHHELD: Final = 50.0  # initial and largest allowance, in frames: two seconds at 25 fps, a usual GOP


class Withheld(StrEnum):
    """Reason why a decoded frame should not be shown. It stands in place of the frame."""

    TORN = "torn"  # the frame, or one that it builds on, was damaged on its way
    REFRESHING = "refreshing"  # the camera sends no keyframes, and has not yet renewed the whole image


class CorruptFrameFilter:
    """Filter that withholds frames damaged in transit, for example over UDP.

    The decoder fills a damaged part from nearby pixels and marks only that frame as corrupt. Frames that build on the
    corrupt frame show the damage as well, until the next keyframe. If damage is rare, the filter withholds all of these
    frames. If nearly every GOP is damaged, damaged frames are better than none, so the filter withholds only a few.
    """

    def __init__(self) -> None:
        self._is_gop_corrupt = False
        self._allowance = _MAX_WITHHELD

    def should_withhold(self, *, corrupt: bool, keyframe: bool) -> bool:
        """Return whether to withhold the next decoded frame."""
        if corrupt or keyframe:
            self._is_gop_corrupt = corrupt
        self._allowance = min(_MAX_WITHHELD, self._allowance + _WITHHELD_SHARE)
        if not self._is_gop_corrupt or self._allowance < 1:
            return False
        self._allowance -= 1
        return True
