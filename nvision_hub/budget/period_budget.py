"""Budget of images for each hour, day or month, spread evenly over the rest of the period.

The caller passes all times as `Instant`, because periods follow the wall clock, which may jump. After a jump, the
budget cannot know whether the old or the new time was right. It therefore counts all images since the earlier of the
two possible period starts, until the current period has ended by both clocks.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from nvision_hub.budget.periods import Period, Span, span_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

JUMP_S: Final = 2.0  # the wall clock has jumped if it deviates this much from the monotonic clock between two updates
BURST_S: Final = 60.0  # an idle camera may send the images of this time at once
_REMEMBERED_S: Final = {Period.HOUR: 2 * 3600.0, Period.DAY: 2 * 90_000.0, Period.MONTH: 2 * 32 * 86400.0}
_BUCKETS_S: Final = {Period.HOUR: 60.0, Period.DAY: 900.0, Period.MONTH: 3600.0}


class Instant(NamedTuple):
    """One moment by two clocks."""

    wall: float  # seconds since the epoch
    mono: float  # monotonic seconds, which also pass while the machine is suspended


class RenewalHold(NamedTuple):
    """State of a budget after a jump of the clock."""

    span: Span
    used: int
    until_mono: float  # before this monotonic time, the budget is not renewed


class PeriodBudget:
    """Budget of `limit` images per period.

    `count` returns the number of images recorded from one wall-clock time up to another, both multiples of 15 minutes.
    If `is_even`, the budget spreads the images over the period. Otherwise, cameras may use up the budget at any time.
    `hold` continues the hold of an earlier budget.
    """

    def __init__(
        self,
        limit: int,
        period: Period,
        zone: tzinfo,
        *,
        count: Callable[[float, float], int],
        now: Instant,
        is_even: bool = True,
        hold: RenewalHold | None = None,
    ) -> None:
        self.limit, self.period = limit, period
        self._zone, self._count, self._is_even = zone, count, is_even
        self._now = now
        if hold is None or hold.until_mono <= now.mono:
            hold = RenewalHold(span_at(period, now.wall, zone), 0, float("-inf"))
        self.span = hold.span
        self.used = max(hold.used, count(*self.span))
        self._since_mono = now.mono - (now.wall - self.span.begin)  # `used` includes all images since then
        self._hold_until_mono = hold.until_mono  # after a jump of the clock, `used` is not reset before this time
        self._recent = deque([(now.mono, self.used)])  # per bucket: monotonic time of its last image, and its images
        self._level = 0.0  # images that may be sent at once
        self._rate = 0.0  # images per second that would use up the budget at the end of the period
        self._is_ample = False  # whether the budget is enough for all images until the end of the period
        self._refill(0.0, float("inf"))
        self._level = self._burst

    def update(self, now: Instant, demand_per_s: float) -> None:
        """Advance to `now`. `demand_per_s` is the maximum number of images per second that the cameras want to send.

        If `count` raises an error, the budget stays unchanged.
        """
        before = self._now
        step = now.mono - before.mono
        if abs(now.wall - before.wall - step) > JUMP_S:
            self._on_jump(now, before.wall + step)
        elif not self.span.includes(now.wall) and now.mono >= self._hold_until_mono:
            span = span_at(self.period, now.wall, self._zone)
            self.used, self.span = self._count(*span), span
            self._since_mono = now.mono - (now.wall - span.begin)
            self._hold_until_mono = float("-inf")
        self._now = now
        self._refill(step, demand_per_s)

    def _on_jump(self, now: Instant, expected_wall: float) -> None:
        before, span = self.span, span_at(self.period, now.wall, self._zone)
        counted = self._count(*span)
        self.span = span
        self._since_mono = min(self._since_mono, now.mono - (now.wall - self.span.begin))
        carried = sum(images for mono, images in self._recent if mono >= self._since_mono)
        self.used = max(self.used, carried, counted)
        left_s = max(before.end - expected_wall, self.span.end - now.wall)
        self._hold_until_mono = max(self._hold_until_mono, now.mono + left_s)

    def _refill(self, step_s: float, demand_per_s: float) -> None:
        left, left_s = max(0, self.limit - self.used), max(1.0, self.left_s)
        self._rate = left / left_s
        self._is_ample = demand_per_s * left_s <= left
        self._level = self._burst if self._is_ample else min(self._burst, self._level + self._rate * step_s)

    @property
    def hold(self) -> RenewalHold | None:
        """The hold after a jump of the clock; None if the budget is renewed at the end of its period."""
        is_held = self._hold_until_mono > self._now.mono
        return RenewalHold(self.span, self.used, self._hold_until_mono) if is_held else None

    @property
    def _burst(self) -> float:
        return max(1.0, self._rate * BURST_S)

    @property
    def left_s(self) -> float:
        """Seconds until the budget is renewed."""
        return max(self.span.end - self._now.wall, self._hold_until_mono - self._now.mono)

    @property
    def wait_s(self) -> float:
        """Seconds until the budget allows one more image; 0 if it allows the image now."""
        if self.used >= self.limit:
            return max(0.0, self.left_s)
        if self._is_ample or not self._is_even or self._level >= 1.0 - 1e-9:
            return 0.0
        return (1.0 - self._level) / self._rate

    @property
    def is_free(self) -> bool:
        """Whether no camera must wait for this budget until images are spent or the period ends."""
        is_unpaced = self._is_ample or not self._is_even
        return is_unpaced and self.used < self.limit and self.hold is None

    def spend(self, images: int = 1) -> None:
        """Count images as used. A negative number gives back images that were never sent."""
        self.used += images
        self._level -= images
        mono, bucket_s = self._now.mono, _BUCKETS_S[self.period]
        if self._recent and self._recent[-1][0] // bucket_s == mono // bucket_s:
            self._recent[-1] = (mono, self._recent[-1][1] + images)
        else:
            self._recent.append((mono, images))
        while mono - self._recent[0][0] > _REMEMBERED_S[self.period]:
            self._recent.popleft()
