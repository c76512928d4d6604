"""Planner that decides which packets to decode, before any of them is decoded. Performs no I/O.

Decoding causes most of a camera's CPU cost, so the planner decodes a packet only if a due frame needs it:

- If keyframes come at least as often as frames are due, it decodes only keyframes.
- Otherwise, decoding starts at a keyframe and ends with the last due frame of the GOP.

The planner buffers the other packets in compressed form until the next keyframe. If a frame becomes due before that
keyframe arrives, the planner decodes the buffered packets after all. It estimates the GOP's length from recent GOPs. A
wrong estimate usually costs only CPU time.

Some cameras send no keyframes but renew the image gradually. For these cameras, decoding starts at the beginning of a
refresh, and the planner decodes every packet.
"""

from __future__ import annotations

from collections import deque
from statistics import fmean
from typing import TYPE_CHECKING, Final, NamedTuple

from nvision_hub.media.decode.gop_buffer import MAX_BUFFERED_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.media.sources import Packet

LATE_S: Final = 1.0  # older frames are not sent
# After falling behind, the planner resumes at a keyframe that is at most this old on arrival. If it resumed at a
# keyframe that is nearly late, the backlog would stay, and every frame would be old. After `_STRICT_FOR_S`, the limit
# is `LATE_S` again: on a slow network, every keyframe may be older than `IN_TIME_S` even without a backlog.
IN_TIME_S: Final = 0.2
_STRICT_FOR_S: Final = 5.0
_MAX_GOPS: Final = 3  # number of GOP lengths that the planner remembers
# Keyframes up to 2 % further apart than the period can still supply the due frames, because the rate may be 2 % too
# low.
_KEYFRAMES_SERVE: Final = 0.98
_OFTEN_S: Final = 1.0
# The length of a GOP may differ from a whole number of periods by this share. The rate then differs by the same share.
_WHOLE_PERIODS: Final = 0.01
BUDGET_WINDOW_S: Final = 30.0
BUDGET_EXCESS: Final = 1.01  # allows at most 1 % more frames than the rate


class DecodeBatch(NamedTuple):
    """Packets to decode next, in order."""

    packets: Sequence[Packet] = ()
    is_alone: bool = False  # whether the packet is a keyframe to decode without the rest of its GOP
    after_gap: bool = False  # whether the planner skipped packets just before this batch
    is_frame_lost: bool = False  # whether a due frame was lost because packets arrived too late


NOTHING: Final = DecodeBatch()
_FRAME_LOST: Final = DecodeBatch(is_frame_lost=True)


class FrameBudget:
    """Limit on the frames that the hub sends for one camera. The budget continues across reconnects.

    The budget exists because the service charges for each frame. In any window of `BUDGET_WINDOW_S` seconds, the budget
    allows at most `BUDGET_EXCESS` times the number of frames that the rate gives, plus one. Once the first frame is
    older than the window, this bound also applies to the whole time since that frame. Each frame costs one period of
    its rate, so a change of the rate needs no special treatment. All times are capture times in monotonic seconds.
    """

    def __init__(self) -> None:
        self._spent_s = 0.0  # total cost of all frames
        # For each frame in the last window: its capture time, and the total cost of all frames before it.
        self._recent: deque[tuple[float, float]] = deque()
        self._began = float("inf")  # capture time of the first frame

    def allows(self, at: float) -> bool:
        """Return whether the budget allows one more frame, captured at `at`."""
        recent_s = next((self._spent_s - spent_s for sent, spent_s in self._recent if self._is_recent(sent, at)), 0.0)
        lasted_s = max(BUDGET_WINDOW_S, at - self._began)
        return recent_s <= BUDGET_EXCESS * BUDGET_WINDOW_S and self._spent_s <= BUDGET_EXCESS * lasted_s

    def spend(self, at: float, period_s: float) -> None:
        """Count a frame captured at `at` and sent at a rate of one frame per `period_s` seconds."""
        self._began = min(self._began, at)
        while self._recent and not self._is_recent(self._recent[0][0], at):
            self._recent.popleft()
        self._recent.append((at, self._spent_s))
        self._spent_s += period_s

    @staticmethod
    def _is_recent(sent: float, at: float) -> bool:
        return sent >= at - BUDGET_WINDOW_S - 1e-6  # the tolerance keeps rounding errors from shortening the window


class Planner:
    """Planner of one stream. All times are capture times in monotonic seconds."""

    def __init__(self, fps: float, budget: FrameBudget | None = None) -> None:
        self._period = 1 / fps
        self._budget = budget or FrameBudget()
        self._due = float("-inf")  # capture time at which the next frame is due
        self._gops: deque[float] = deque(maxlen=_MAX_GOPS)
        self.gop_s: float | None = None  # longest recent keyframe interval; None until two keyframes have been seen
        self.keyframes_only = False  # whether keyframes alone supply every due frame
        self._keyframe: float | None = None  # capture time of the last keyframe; None before the first keyframe
        self._previous: float | None = None
        self._interval = 0.0  # smoothed time between packets, in seconds
        self._advance_s = self._period / 2  # seconds by which `_align` may still make the due time earlier
        # Capture time of the first late packet; None after a keyframe that was on time.
        self._late_since: float | None = None
        self._buffer: list[Packet] = []
        self._buffered_bytes = 0
        self._is_whole = False  # whether every packet since the last keyframe has been decoded or is in the buffer
        self._after_gap = False  # whether the planner has dropped packets since the last batch
        self._refreshes = False  # whether the stream contains gradual refreshes

    def set_rate(self, fps: float) -> None:
        """Apply another rate. The next frame is due one new period after the last frame."""
        period = 1 / fps
        if period != self._period:
            self._due += period - self._period
            self._period = period
            self._update()

    def _update(self) -> None:
        """Update `gop_s` and `keyframes_only`, which change less often than packets arrive."""
        self.gop_s = max(self._gops, default=None)
        self.keyframes_only = self.gop_s is not None and self.gop_s * _KEYFRAMES_SERVE <= self._period

    def push(self, packet: Packet, at: float, *, late_s: float, reorders: bool = False) -> DecodeBatch:
        """Buffer the next packet (captured at `at`, `late_s` seconds old). Return the batch to decode now.

        `reorders` says whether the decoder holds back a frame until later packets arrive. If so, a keyframe that is
        needed without the rest of its GOP is decoded alone. It stays in the buffer in case the rest is needed later.
        """
        self.observe(at, keyframe=packet.keyframe)
        is_strict = self._late_since is not None and at - self._late_since < _STRICT_FOR_S
        if late_s > (IN_TIME_S if is_strict else LATE_S):
            # The rest of this GOP would also be late. To catch up, the planner leaves the packets of this GOP
            # undecoded.
            if self._late_since is None:
                self._late_since = at
            return self._drop(at)
        if packet.keyframe:
            self._after_gap = self._after_gap or bool(self._buffer)
            self._clear()
            self._is_whole, self._late_since = True, None
            self._align(at)
        if packet.begins_refresh:
            self._refreshes = True
            if not self._is_whole:
                # Frames before the end of the refresh are not sent, so the decoder must not use any earlier data.
                self._is_whole, self._late_since, self._after_gap = True, None, True
        if not self._is_whole:
            return self._drop(at)
        if not self._is_needed(at, keyframe=packet.keyframe):
            self._buffered_bytes += packet.size_bytes
            if self._buffered_bytes > MAX_BUFFERED_BYTES:
                return self._drop(at)
            self._buffer.append(packet)
            return NOTHING
        self._buffer.append(packet)
        is_alone = reorders and packet.keyframe and self.keyframes_only
        batch = DecodeBatch(self._buffer, is_alone, self._after_gap)
        self._buffer, self._buffered_bytes, self._after_gap = [packet] if is_alone else [], 0, False
        return batch

    def _drop(self, at: float) -> DecodeBatch:
        self._clear()
        self._is_whole, self._after_gap = False, True
        return _FRAME_LOST if self._late_since is not None and self.accept(at) else NOTHING

    def _clear(self) -> None:
        self._buffer, self._buffered_bytes = [], 0

    def bypass(self, packet: Packet, at: float) -> None:
        """Record a packet that goes to the closed motion gate, and drop the buffered packets."""
        self.observe(at, keyframe=packet.keyframe)
        self._clear()
        self._after_gap = False  # the gate itself reports its gaps

    def resume(self) -> None:
        """Continue within a GOP of which the motion gate has decoded all packets so far."""
        self._clear()
        self._is_whole, self._late_since = True, None

    def observe(self, at: float, *, keyframe: bool) -> None:
        """Update the estimated intervals between packets and between keyframes."""
        if self._previous is not None and at > self._previous:
            step = at - self._previous
            self._interval += (step - self._interval) * (0.1 if self._interval else 1.0)
        self._previous = at
        if keyframe:
            if self._keyframe is not None and at > self._keyframe:
                self._gops.append(at - self._keyframe)
                self._update()
            self._keyframe = at
        elif self.gop_s is not None and self._keyframe is not None and at - self._keyframe > self.gop_s + self._slack:
            self._gops.append(at - self._keyframe)  # the GOPs have become longer
            self._update()

    def _align(self, at: float) -> None:
        """If the GOP lasts a whole number of periods, make a frame due at the keyframe.

        The last due frame of the GOP, at which decoding ends, then comes as early as possible. For example, at one
        frame per second, only half of a GOP of 2 s is decoded. If a frame were due just before the next keyframe, the
        planner would have to decode the whole GOP.
        """
        early = self._due - at
        # If the due time is long past, a decoder that reorders still holds the frame for that time.
        if not self._gops or self.keyframes_only or not -self._tolerance <= early <= self._period:
            return
        gop = fmean(self._gops)  # not the longest GOP, because jitter could lengthen it to a whole number of periods
        self._gain(gop * _WHOLE_PERIODS)
        if abs(gop - round(gop / self._period) * self._period) >= min(self._tolerance, gop * _WHOLE_PERIODS):
            return
        if early > self._period / 2:
            self._gain(self._period - early)
            self._due = at + self._period
            return
        # Each change to an earlier due time brings two frames closer together. The changes must not add up to a higher
        # rate.
        step = min(early, self._advance_s)
        self._gain(-step)
        self._due -= step

    def _gain(self, seconds: float) -> None:
        self._advance_s = min(self._period / 2, self._advance_s + seconds)

    def _is_needed(self, at: float, *, keyframe: bool) -> bool:
        """Return whether a due frame now needs this packet and the buffered packets."""
        gop, began = self.gop_s, self._keyframe
        if gop is None or began is None:
            # The GOP's length is unknown, so the planner buffers packets until a frame is due. If frames are due so
            # often that keyframes alone will probably be too rare, it decodes each packet immediately: decoding several
            # packets together would only make their frames late.
            return self._refreshes or self._period < _OFTEN_S or self._is_due(at)
        if self.keyframes_only:
            # The keyframe nearest to the due time becomes the due frame. If no keyframe comes, the planner decodes the
            # buffer at the first packet that is clearly past both the due time and the time of the expected keyframe. A
            # packet that is past only the due time is not enough, because the nearest keyframe may still come.
            return self._is_due(at) if keyframe else at >= max(self._due, began + gop) + self._slack
        next_keyframe = began + gop
        return self._due < next_keyframe - self._tolerance or at >= next_keyframe + self._slack

    def _is_due(self, at: float) -> bool:
        return at >= self._due - self._tolerance and self._budget.allows(at)

    @property
    def _tolerance(self) -> float:
        """Seconds by which a frame may precede the due time and still be the frame nearest to that time."""
        apart = self.gop_s if self.keyframes_only else self._interval
        return min(apart or 0.0, self._period) / 2

    @property
    def _slack(self) -> float:
        """Seconds by which a keyframe may be overdue before the planner decodes the buffer.

        The decoded frames must not be older than `LATE_S`, because the pipeline would drop older frames.
        """
        return min(self._period / 4, LATE_S / 2)

    def can_become_due(self, at: float) -> bool:
        """Return whether the frame captured at `at` may be due when the decoder returns it."""
        return at >= self._due - 2 * self._tolerance  # the tolerance may change before the frame is decoded

    def accept(self, at: float) -> bool:
        """Return whether the decoded frame captured at `at` is due. Count a due frame as sent."""
        if not self._is_due(at):
            return False
        self._budget.spend(at, self._period)
        # Counting from the due time instead of the frame keeps the rate exact. Frames missed in a gap are not sent
        # later.
        self._due += self._period
        if self.keyframes_only and fmean(self._gops) > self._period:  # not the longest GOP, because jitter lengthens it
            # Otherwise, keyframes slightly further apart than the period would fall further and further behind the due
            # times.
            self._due = max(self._due, at + self._period * _KEYFRAMES_SERVE)
        if self._due <= at:
            self._due = at + self._period
        return True

    def can_add(self, at: float) -> bool:
        """Return whether the budget allows a frame that is due under another rate."""
        return self._budget.allows(at)

    def add(self, at: float) -> None:
        """Count a frame that is sent because it is due under another rate.

        The next frame is due at least one period later.
        """
        self._budget.spend(at, self._period)
        self._due = max(self._due, at + self._period)
