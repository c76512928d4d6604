"""History of one process: samples of the last minute for quantiles, and points of the last half hour for charts.

Performs no I/O and reads no clock. Points have fixed intervals, so a chart needs no timestamps. Missed intervals become
gaps.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from typing_extensions import TypedDict  # pydantic supports typing.TypedDict only on Python 3.12 and later

from nvision_hub.metrics import catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvision_hub.metrics.snapshot import Buckets, MetricSnapshot

INTERVAL_S: Final = 2.0
HISTORY_S: Final = 1800.0
LONG_WINDOW_S: Final = 60.0  # for the quantiles in a camera's summary
SHORT_WINDOW_S: Final = 10.0  # for rates, CPU and the quantiles in charts
_MAX_POINTS: Final = int(HISTORY_S / INTERVAL_S)


class Quantiles(TypedDict):
    """Median and 99th percentile of the durations in the last minute, in seconds."""

    p50: float
    p99: float


class HistoryPoints(TypedDict):
    """Series of points, oldest first; None means unknown."""

    rate_in: list[float | None]
    rate_out: list[float | None]
    age_p50_s: list[float | None]
    age_p99_s: list[float | None]
    round_trip_p50_s: list[float | None]
    dropped_per_s: list[float | None]


class _Sample(NamedTuple):
    at: float
    age: Buckets | None
    round_trip: Buckets | None
    dropped: dict[str, int]  # by reason
    cpu_s: float | None


class MetricHistory:
    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()
        # Arrays of four-byte floats: half an hour of one camera needs 22 kB. NaN means unknown.
        self._points = {name: array("f") for name in HistoryPoints.__annotations__}
        # Dropped frames per second, by reason, for all reasons that have occurred.
        self._dropped: dict[str, array[float]] = {}
        self._next: float | None = None  # time at which the next point is due

    def record(
        self, now: float, metrics: MetricSnapshot | None, *, rate_in: float | None, rate_out: float | None
    ) -> None:
        """Add a sample and a point. Call this method once per `INTERVAL_S`. `metrics` is None while unknown."""
        missed = 0 if self._next is None else int((now - self._next) / INTERVAL_S + 0.5)
        for _ in range(min(missed, _MAX_POINTS)):
            self._add({})
        self._next = now + INTERVAL_S if missed or self._next is None else self._next + INTERVAL_S
        if metrics is None:
            self._add({})
            return
        sample = _Sample(
            at=now,
            age=metrics.histograms.get(catalogue.FRAME_AGE_SECONDS.name),
            round_trip=metrics.histograms.get(catalogue.ROUND_TRIP_SECONDS.name),
            dropped=metrics.by_label(catalogue.FRAMES_DROPPED_TOTAL, "reason"),
            cpu_s=metrics.counters.get((catalogue.WORKER_CPU_SECONDS_TOTAL.name, ())),
        )
        self._samples.append(sample)
        while now - self._samples[0].at > LONG_WINDOW_S + INTERVAL_S / 2:
            self._samples.popleft()
        before = self._sample_before(SHORT_WINDOW_S)
        elapsed = now - before.at
        dropped = {
            reason: max(0, count - before.dropped.get(reason, 0)) / elapsed
            for reason, count in sample.dropped.items()
            if elapsed
        }
        values = {
            "rate_in": rate_in,
            "rate_out": rate_out,
            "age_p50_s": self._quantile("age", 0.5, SHORT_WINDOW_S),
            "age_p99_s": self._quantile("age", 0.99, SHORT_WINDOW_S),
            "round_trip_p50_s": self._quantile("round_trip", 0.5, SHORT_WINDOW_S),
            "dropped_per_s": sum(dropped.values()) if elapsed else None,
        }
        self._add(values, dropped)

    def quantiles(self, durations: Literal["age", "round_trip"]) -> Quantiles | None:
        """Return the quantiles of "age" (capture to sending) or "round_trip" (sending to result); None if unknown."""
        if not self._samples:
            return None
        p50, p99 = self._quantile(durations, 0.5, LONG_WINDOW_S), self._quantile(durations, 0.99, LONG_WINDOW_S)
        return None if p50 is None or p99 is None else Quantiles(p50=round(p50, 4), p99=round(p99, 4))

    def cpu(self) -> float | None:
        """Return the number of CPU cores used, averaged over `SHORT_WINDOW_S`; None if unknown."""
        if not self._samples:
            return None
        last, before = self._samples[-1], self._sample_before(SHORT_WINDOW_S)
        if last.cpu_s is None or before.cpu_s is None or last.at <= before.at:
            return None
        return max(0.0, last.cpu_s - before.cpu_s) / (last.at - before.at)

    def points(self) -> HistoryPoints:
        return cast("HistoryPoints", {name: _json_values(values) for name, values in self._points.items()})

    def dropped(self) -> dict[str, list[float | None]]:
        """Return a series of dropped frames per second for each reason, oldest first."""
        return {reason: _json_values(values) for reason, values in self._dropped.items() if any(v > 0 for v in values)}

    def dropped_counts(self) -> dict[str, int] | None:
        """Return the camera's dropped frames by reason at the newest point; None if unknown."""
        return self._samples[-1].dropped if self._samples else None

    def _add(self, values: Mapping[str, float | None], dropped: Mapping[str, float] = {}) -> None:
        for reason in dropped.keys() - self._dropped.keys():
            # The reason is new, so its rate was 0 at all points with a known total.
            self._dropped[reason] = array("f", (0.0 * known for known in self._points["dropped_per_s"]))
        for name, series in self._points.items():
            _append(series, values.get(name))
        for reason, series in self._dropped.items():
            _append(series, None if values.get("dropped_per_s") is None else dropped.get(reason, 0.0))

    def _sample_before(self, seconds: float) -> _Sample:
        since = self._samples[-1].at - seconds - INTERVAL_S / 2
        return next(sample for sample in self._samples if sample.at >= since)

    def _quantile(self, field: str, share: float, seconds: float) -> float | None:
        now: Buckets | None = getattr(self._samples[-1], field)
        before = self._sample_before(seconds)
        # A single sample contains the counts since the start of the process, not the counts within the window.
        if now is None or before is self._samples[-1]:
            return None
        return now.since(getattr(before, field)).quantile(share)


def _append(series: array[float], value: float | None) -> None:
    series.append(math.nan if value is None else value)
    if len(series) > _MAX_POINTS:
        del series[0]


def _json_values(values: array[float]) -> list[float | None]:
    return [None if math.isnan(value) else round(value, 4) for value in values]
