"""Which packets to decode, told before any is. Pure: packets' facts in, verdicts out.

Decoding is nearly the whole bill, so a packet is decoded only where a picture that is owed needs it:

- every picture is a keyframe's, where keyframes come at least as often as pictures are owed;
- otherwise from a keyframe on, until the last picture that this group of pictures (GOP) owes.

The other packets are held, compressed, until the next keyframe: where that one stays out and a picture falls due,
the held ones are decoded after all. GOP length is learned; a wrong guess costs CPU, never a picture.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

LATE_S: Final = 1.0  # a picture older than this is not worth sending
# Whoever was late begins again with a keyframe that is in time: one that is itself nearly late would keep the backlog,
# and every picture would be old. A way whose keyframes are always slow must not be mistaken for a backlog for long.
IN_TIME_S: Final = 0.2
_STRICT_FOR_S: Final = 5.0
HELD_MAX_BYTES: Final = 8 * 2**20  # two 10 s GOPs of a 4 Mbit/s camera, nearly
_GOPS_REMEMBERED: Final = 3
# A keyframe a little later than its picture is due still serves: 2 % is within the rate's tolerance.
_KEYFRAMES_SERVE: Final = 0.98
_OFTEN_S: Final = 1.0
_WHOLE_PERIODS: Final = 0.01  # of a GOP, which may miss a whole number of periods by so much: the rate then does too


class Verdict(Enum):
    """What to do with one packet."""

    DECODE = "decode"  # and whatever is held, first
    HOLD = "hold"
    DROP = "drop"  # nothing can come of it: the chain back to a keyframe is broken


class Planner:
    """One stream's plan at one rate. All times are capture times in monotonic seconds."""

    def __init__(self, fps: float) -> None:
        self._period = 1 / fps
        self._due = float("-inf")  # when the next picture is owed
        self._gops: deque[float] = deque(maxlen=_GOPS_REMEMBERED)
        self._keyframe: float | None = None  # the current GOP's first packet; None before the first
        self._previous: float | None = None
        self._interval = 0.0  # between packets, smoothed
        self._whole = False  # whether everything since the keyframe was decoded or is held
        self._late_since: float | None = None  # what was late then has broken the chain
        self._held_bytes = 0

    def tune(self, fps: float) -> None:
        """Another rate from now on: the next picture is owed one new period after the last."""
        period = 1 / fps
        self._due += period - self._period
        self._period = period

    @property
    def late(self) -> bool:
        """Whether pictures are lost because their packets came too late, until the next keyframe that is in time."""
        return self._late_since is not None

    @property
    def gop_s(self) -> float | None:
        """The learned seconds from keyframe to keyframe; None until two were seen."""
        return max(self._gops) if self._gops else None

    @property
    def keyframes_only(self) -> bool:
        """Whether keyframes alone give every picture owed."""
        return self.gop_s is not None and self.gop_s * _KEYFRAMES_SERVE <= self._period

    def consider(self, at: float, *, keyframe: bool, size_bytes: int, late_s: float) -> Verdict:
        """The verdict on the next packet, captured at `at`, `late_s` seconds ago."""
        self.learn(at, keyframe=keyframe)
        if late_s > self._late_from(at):
            # Behind: nothing of this GOP will be on time, and leaving packets undecoded is what catches up.
            self._whole = False
            if self._late_since is None:
                self._late_since = at
            return Verdict.DROP
        if keyframe:
            self._whole, self._held_bytes, self._late_since = True, 0, None
            self._align(at)
        if not self._whole:
            return Verdict.DROP
        if self._wanted(at, keyframe=keyframe):
            self._held_bytes = 0
            return Verdict.DECODE
        self._held_bytes += size_bytes
        if self._held_bytes > HELD_MAX_BYTES:
            self._whole = False
            return Verdict.DROP
        return Verdict.HOLD

    def _late_from(self, at: float) -> float:
        strict = self._late_since is not None and at - self._late_since < _STRICT_FOR_S
        return IN_TIME_S if strict else LATE_S

    def caught_up(self) -> None:
        """Say that everything since the last keyframe was decoded, whatever the verdicts were."""
        self._whole, self._held_bytes, self._late_since = True, 0, None

    def learn(self, at: float, *, keyframe: bool) -> None:
        """Take note of a packet that somebody else has judged."""
        if self._previous is not None and at > self._previous:
            step = at - self._previous
            self._interval += (step - self._interval) * (0.1 if self._interval else 1.0)
        self._previous = at
        if keyframe:
            if self._keyframe is not None and at > self._keyframe:
                self._gops.append(at - self._keyframe)
            self._keyframe = at
        elif self._gops and self._keyframe is not None and at - self._keyframe > max(self._gops) + self._slack:
            self._gops.append(at - self._keyframe)  # it has become longer

    def _align(self, at: float) -> None:
        """Where a GOP lasts a whole number of periods, let a picture fall due at its keyframe.

        The last picture that the GOP owes then comes as early as can be, and decoding ends with it: at 1 a second in a
        GOP of 2 s half of it, where one due just before the next keyframe would cost all of it.
        """
        gop, early = self.gop_s, self._due - at
        if gop is None or self.keyframes_only or not -self._period < early <= self._period:
            return
        if abs(gop - round(gop / self._period) * self._period) < min(self._tolerance, gop * _WHOLE_PERIODS):
            # Moved by half a period at most, once: from then on they fall due there by themselves.
            self._due = at if early <= self._period / 2 else at + self._period

    def _wanted(self, at: float, *, keyframe: bool) -> bool:
        gop, began = self.gop_s, self._keyframe
        if gop is None or began is None:
            # Nothing learned yet: held until a picture is due, unless pictures are due so often that keyframes will
            # hardly serve; decoding several packets at once would then only make each of them late.
            return self._period < _OFTEN_S or at >= self._due - self._tolerance
        if self.keyframes_only:
            # The keyframe nearest to the due time; without one, the first packet that is clearly past both. The due
            # time alone is not enough to be past: the nearest keyframe may be the one that comes.
            return at >= (self._due - self._tolerance if keyframe else max(self._due, began + gop) + self._slack)
        comes = began + gop
        return self._due < comes - self._tolerance or at >= comes + self._slack

    @property
    def _tolerance(self) -> float:
        """How much too early a picture may be and still be the one nearest to its due time."""
        apart = self.gop_s if self.keyframes_only else self._interval
        return min(apart or 0.0, self._period) / 2

    @property
    def _slack(self) -> float:
        """How long a keyframe may stay out before its picture is made otherwise: well within half a period."""
        return self._period / 4

    def may_be_owed(self, at: float) -> bool:
        """Whether the picture captured at `at` can turn out to be owed once it and those ahead of it are decoded."""
        return at >= self._due - 2 * self._tolerance  # what is learned meanwhile may change the tolerance

    def owed(self, at: float) -> bool:
        """Whether the decoded picture captured at `at` is to be sent; if so, it has been accounted for."""
        if at < self._due - self._tolerance:
            return False
        # Counting from the due time keeps the rate exact; after a gap nothing is owed for the time that is gone.
        self._due += self._period
        if self.keyframes_only and (self.gop_s or 0.0) > self._period:
            # Keyframes a little further apart than pictures are owed must not fall behind what is due, ever further.
            self._due = max(self._due, at + self._period * _KEYFRAMES_SERVE)
        if self._due <= at:
            self._due = at + self._period
        return True
