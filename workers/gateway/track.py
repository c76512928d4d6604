"""One member's recent past: marks of the last minute, and half an hour of points for charts. Pure; told the time.

Points lie on a fixed grid, so that a chart needs no times of its own; a turn that was missed is a gap in it.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.gateway.tally import Buckets, Tally

EVERY_S: Final = 2.0
KEPT_S: Final = 1800.0
LATELY_S: Final = 60.0  # what quantiles beside a camera are of
SHORTLY_S: Final = 10.0  # what rates, CPU and the quantiles in charts are of
AGE: Final = "frame_age_seconds"
ROUND_TRIP: Final = "round_trip_seconds"
POINTS: Final = ("rate_in", "rate_out", "age_p50_s", "age_p99_s", "round_trip_p50_s", "dropped_per_s")

_KEPT: Final = int(KEPT_S / EVERY_S)


@dataclass(frozen=True, slots=True)
class _Mark:
    at: float
    age: Buckets | None
    round_trip: Buckets | None
    dropped: Mapping[str, int]  # by reason
    cpu_s: float | None


class Track:
    """Marks and points of one member."""

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque()
        # Floats of four bytes: half an hour of one camera takes 22 kB. NaN is "nothing known".
        self._points = {name: array("f") for name in POINTS}
        self._dropped: dict[str, array[float]] = {}  # a second, by reason; of those alone that have ever occurred
        self._next = -math.inf  # when the next point is due

    def record(self, now: float, tally: Tally | None, *, rate_in: float | None, rate_out: float | None) -> None:
        """One turn, about every `EVERY_S`; `tally` is None while what was counted is not known."""
        self._skip(now)
        if tally is None:
            self._add({})
            return
        cpu_s = tally.counters.get(("worker_cpu_seconds_total", ()))
        self._marks.append(
            _Mark(
                at=now,
                age=tally.histograms.get(AGE),
                round_trip=tally.histograms.get(ROUND_TRIP),
                dropped=tally.by("frames_dropped_total", "reason"),
                cpu_s=cpu_s,
            )
        )
        while now - self._marks[0].at > LATELY_S + EVERY_S / 2:
            self._marks.popleft()
        before = self._mark_before(SHORTLY_S)
        elapsed = now - before.at
        dropped = {
            reason: max(0, count - before.dropped.get(reason, 0)) / elapsed
            for reason, count in self._marks[-1].dropped.items()
            if elapsed
        }
        self._add(
            {
                "rate_in": rate_in,
                "rate_out": rate_out,
                "age_p50_s": self._quantile("age", 0.5, SHORTLY_S),
                "age_p99_s": self._quantile("age", 0.99, SHORTLY_S),
                "round_trip_p50_s": self._quantile("round_trip", 0.5, SHORTLY_S),
                "dropped_per_s": sum(dropped.values()) if elapsed else None,
            },
            dropped,
        )

    def age_s(self) -> tuple[float, float] | None:
        """From capture to socket: p50 and p99 of the last minute; None where nothing was sent."""
        return self._pair("age")

    def round_trip_s(self) -> tuple[float, float] | None:
        """From socket to result: p50 and p99 of the last minute; None where none came."""
        return self._pair("round_trip")

    def cpu(self) -> float | None:
        """Cores taken over the last ten seconds; None where that is not known."""
        if not self._marks:
            return None
        last, before = self._marks[-1], self._mark_before(SHORTLY_S)
        if last.cpu_s is None or before.cpu_s is None or last.at <= before.at:
            return None
        return max(0.0, last.cpu_s - before.cpu_s) / (last.at - before.at)

    def points(self) -> dict[str, list[float | None]]:
        """Every series of `POINTS`, oldest first."""
        return {name: _shown(values) for name, values in self._points.items()}

    def dropped(self) -> dict[str, list[float | None]]:
        """Pictures dropped a second for each reason that has occurred lately, oldest first."""
        return {reason: _shown(values) for reason, values in self._dropped.items() if any(v > 0 for v in values)}

    def _skip(self, now: float) -> None:
        missed = 0 if math.isinf(self._next) else int((now - self._next) / EVERY_S + 0.5)
        for _ in range(min(max(missed, 0), _KEPT)):
            self._add({})
        self._next = now + EVERY_S if missed or math.isinf(self._next) else self._next + EVERY_S

    def _add(self, values: Mapping[str, float | None], dropped: Mapping[str, float] | None = None) -> None:
        for reason in (dropped or {}).keys() - self._dropped.keys():
            # It has not occurred before, as far as anything is known.
            self._dropped[reason] = array("f", (0.0 * known for known in self._points["dropped_per_s"]))
        if values.get("dropped_per_s") is None:
            dropped = dict.fromkeys(self._dropped, math.nan)
        for name, series in self._points.items():
            value = values.get(name)
            _append(series, math.nan if value is None else value)
        for reason, series in self._dropped.items():
            _append(series, (dropped or {}).get(reason, 0.0))

    def _mark_before(self, seconds: float) -> _Mark:
        since = self._marks[-1].at - seconds - EVERY_S / 2
        return next(mark for mark in self._marks if mark.at >= since)

    def _quantile(self, what: str, share: float, seconds: float) -> float | None:
        now: Buckets | None = getattr(self._marks[-1], what)
        before = self._mark_before(seconds)
        # A single mark says what was counted since ever, which is not lately.
        if now is None or before is self._marks[-1]:
            return None
        return now.since(getattr(before, what)).quantile(share)

    def _pair(self, what: str) -> tuple[float, float] | None:
        if not self._marks:
            return None
        p50, p99 = self._quantile(what, 0.5, LATELY_S), self._quantile(what, 0.99, LATELY_S)
        return None if p50 is None or p99 is None else (p50, p99)


def _append(series: array[float], value: float) -> None:
    series.append(value)
    if len(series) > _KEPT:
        del series[0]


def _shown(values: array[float]) -> list[float | None]:
    return [None if math.isnan(value) else round(value, 4) for value in values]
