"""Counters, gauges and histograms of one process."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter as Tally
from collections import deque
from typing import TYPE_CHECKING, Final

from nvision_hub.metrics.snapshot import Buckets, MetricSnapshot, SeriesKey, cap

if TYPE_CHECKING:
    from nvision_hub.metrics.catalogue import Counter, Gauge, Histogram, Metric

AGE_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_EMPTY: Final = Buckets(AGE_BUCKETS_S, (0,) * (len(AGE_BUCKETS_S) + 1), 0.0)


class Meter:
    """Metrics of one process.

    A meter is thread-safe, because both the capture thread and the event loop count frames. The lock adds about 0.2 us
    per count.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = MetricSnapshot()
        self._sizes = Tally[str]()  # number of series by metric name

    def count(self, metric: Counter, /, by: float = 1, **labels: str) -> None:
        """Add `by` to a counter. After `MAX_LABEL_SETS` label sets, each new label set counts as `OTHER`."""
        key = _key(metric, labels)
        with self._lock:
            if key not in self._now.counters:
                _check(metric, labels)
                key = cap(key, self._sizes)
            self._now.counters[key] = self._now.counters.get(key, 0) + by

    def set_counter(self, metric: Counter, /, value: float, **labels: str) -> None:
        """Set a counter that is measured elsewhere, such as the CPU time that the kernel measures."""
        _check(metric, labels)
        with self._lock:
            self._now.counters[_key(metric, labels)] = value

    def set_gauge(self, metric: Gauge, /, value: float, **labels: str) -> None:
        _check(metric, labels)
        with self._lock:
            self._now.gauges[_key(metric, labels)] = value

    def observe(self, metric: Histogram, seconds: float) -> None:
        with self._lock:
            before = self._now.histograms.get(metric.name, _EMPTY)
            counts = list(before.counts)
            counts[bisect_left(before.bounds, seconds)] += 1
            self._now.histograms[metric.name] = Buckets(before.bounds, tuple(counts), before.total + seconds)

    def value(self, metric: Counter, /, **labels: str) -> float:
        """Return the value of a counter; 0 before the first count."""
        return self._now.counters.get(_key(metric, labels), 0)

    def gauge_value(self, metric: Gauge, /, **labels: str) -> float | None:
        """Return the value of a gauge; None before the first value."""
        return self._now.gauges.get(_key(metric, labels))

    def total(self, metric: Counter) -> float:
        """Return the sum of a counter over all its label sets."""
        return self.snapshot().total(metric)

    def snapshot(self) -> MetricSnapshot:
        with self._lock:
            return MetricSnapshot(dict(self._now.counters), dict(self._now.gauges), dict(self._now.histograms))


class RateWindow:
    """Rate of a counter in events per second over a sliding window."""

    def __init__(self, window_s: float = 10.0) -> None:
        self._window_s = window_s
        self._marks: deque[tuple[float, float]] = deque()  # (monotonic seconds, counter)

    def update(self, now: float, counter: float) -> float:
        """Record the counter's value at `now` (monotonic seconds). Return the rate per second over the window."""
        self._marks.append((now, counter))
        while len(self._marks) > 1 and now - self._marks[0][0] > self._window_s:
            self._marks.popleft()
        then, before = self._marks[0]
        return (counter - before) / (now - then) if now > then else 0.0


def _key(metric: Metric, labels: dict[str, str]) -> SeriesKey:
    return metric.name, tuple(sorted(labels.items()))


def _check(metric: Metric, labels: dict[str, str]) -> None:
    if unknown := labels.keys() - set(metric.labels):
        raise ValueError(f"{metric.name} has no label {sorted(unknown)}; its labels are {metric.labels}")
