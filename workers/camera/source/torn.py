"""Which pictures are withheld because a part of them was lost on the way (UDP, a bad line). Pure.

The decoder fills what is missing from whatever is near, and says so of that one picture only; those that build on it
show it as well, until the next keyframe. Where that is rare they are not shown. On a line that tears nearly every group
of pictures, a picture with a blemish is better than none: no more than a small share is withheld.
"""

from __future__ import annotations

from typing import Final

_SAVED_PER_PICTURE: Final = 0.04  # 4 % of the pictures, in the long run
_SAVED_MAX: Final = 50.0  # at once: two seconds of a camera at 25 a second, a usual GOP


class TornPictures:
    """One stream's account."""

    def __init__(self) -> None:
        self._torn = False  # since the last keyframe something was lost
        self._saved = _SAVED_MAX

    def withheld(self, *, corrupt: bool, keyframe: bool) -> bool:
        """Whether the next decoded picture is not to be shown."""
        if corrupt:
            self._torn = True
        elif keyframe:
            self._torn = False
        self._saved = min(_SAVED_MAX, self._saved + _SAVED_PER_PICTURE)
        if not self._torn or self._saved < 1:
            return False
        self._saved -= 1
        return True
