"""Immutable snapshot of a process's metrics.

Processes send snapshots in status reports, the supervisor merges them across restarts, and the gateway reads them. In a
message, a series is `[name, {label: value}, number]`.
"""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, PlainSerializer, PlainValidator

if TYPE_CHECKING:
    from nvision_hub.metrics.catalogue import Counter, Gauge

# The service chooses the names of detections. Too many names could fill the pipe, the memory, or a Prometheus server.
MAX_LABEL_SETS: Final = 200
OTHER: Final = "other"

SeriesKey = tuple[str, tuple[tuple[str, str], ...]]  # a metric's name, and the labels of one series sorted by name
Series = dict[SeriesKey, float]


def _validate(series: Any) -> Series:
    if isinstance(series, dict) and all(isinstance(key, tuple) for key in series):
        return series
    try:
        return {(str(name), tuple(sorted(labels.items()))): +value for name, labels, value in series}
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError("a series is [name, {label: value}, number]") from error


def _serialize(series: Series) -> list[tuple[str, dict[str, str], float]]:
    return [(name, dict(labels), value) for (name, labels), value in series.items()]


_Series = Annotated[Series, PlainValidator(_validate), PlainSerializer(_serialize)]


class StrictData:
    """Base class of all dataclasses that cross a process boundary. Wrong types and unknown fields are errors."""

    __slots__ = ()
    __pydantic_config__: ClassVar = ConfigDict(
        strict=True,
        extra="forbid",
        ser_json_inf_nan="constants",
        # The OpenAPI description then lists all fields as required.
        json_schema_serialization_defaults_required=True,
    )


@dataclass(frozen=True, slots=True)
class Buckets(StrictData):
    """One histogram: bounds in seconds, counts per bucket (not cumulative), and the sum of all values in seconds.

    `counts` has one more entry than `bounds`, for values above the last bound.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds) + 1:
            raise ValueError("a histogram must have one more count than it has bounds")

    def plus(self, later: Buckets) -> Buckets:
        """Return the sum of both histograms; only `later` if its bounds differ."""
        if self.bounds != later.bounds:
            return later
        counts = tuple(a + b for a, b in zip(self.counts, later.counts, strict=True))
        return Buckets(later.bounds, counts, self.total + later.total)

    def since(self, before: Buckets | None) -> Buckets:
        """Return the observations after `before`; all observations if `before` is None or has other bounds."""
        if before is None or before.bounds != self.bounds:
            return self
        counts = tuple(max(0, now - then) for now, then in zip(self.counts, before.counts, strict=True))
        return Buckets(self.bounds, counts, max(0.0, self.total - before.total))

    def quantile(self, share: float) -> float | None:
        """Return the value below which `share` (0..1) of the observations lie; None if there are none.

        Interpolates linearly within a bucket.
        """
        left = share * sum(self.counts)
        if left <= 0:
            return None
        lower = 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if left <= count:
                return lower + (bound - lower) * left / count
            left -= count
            lower = bound
        return lower


@dataclass(frozen=True, slots=True)
class MetricSnapshot(StrictData):
    """All metrics of one process at one moment, or of several processes that ran one after another."""

    counters: _Series = field(default_factory=dict)
    gauges: _Series = field(default_factory=dict)
    histograms: dict[str, Buckets] = field(default_factory=dict)

    def merge(self, later: MetricSnapshot) -> MetricSnapshot:
        """Return the sums of the counters and histograms, with the gauges of `later`.

        Once a counter has `MAX_LABEL_SETS` label sets, new label sets from `later` count as `OTHER`.
        """
        counters = dict(self.counters)
        sizes = Tally(name for name, _ in counters)
        for key, value in later.counters.items():
            capped = key if key in counters else cap(key, sizes)
            counters[capped] = counters.get(capped, 0) + value
        histograms = dict(self.histograms)
        for name, buckets in later.histograms.items():
            histograms[name] = histograms[name].plus(buckets) if name in histograms else buckets
        return MetricSnapshot(counters, later.gauges, histograms)

    def total(self, metric: Counter) -> float:
        """Return the sum of a counter over all its label sets."""
        return sum(value for (name, _), value in self.counters.items() if name == metric.name)

    def by_label(self, metric: Counter, label: str) -> dict[str, int]:
        """Return the sum of a counter for each value of one label. Omit sums of 0."""
        found = Tally[str]()
        for (name, labels), value in self.counters.items():
            if name == metric.name and value:
                found[dict(labels).get(label, "")] += int(value)
        return dict(found)

    def gauge(self, metric: Gauge) -> float | None:
        """Return the value of a gauge without labels; None if the gauge was never set."""
        return self.gauges.get((metric.name, ()))


def cap(key: SeriesKey, sizes: Tally[str]) -> SeriesKey:
    """Return the key under which a new series counts.

    Update `sizes`, which maps each metric name to its number of series.
    """
    name, labels = key
    if labels and sizes[name] >= MAX_LABEL_SETS:
        return name, tuple((label, OTHER) for label, _ in labels)
    sizes[name] += 1
    return key
