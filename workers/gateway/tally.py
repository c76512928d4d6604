"""What a member's processes have counted, in sum, and what the difference of two such sums tells. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvision_hub.status import Labels

Series = dict[tuple[str, "Labels"], float]


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram: `counts` has one more entry than `bounds`, for what is beyond the last; `total` in seconds."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float

    def since(self, before: Buckets | None) -> Buckets:
        """What was observed after `before`; all where that is None or of other buckets."""
        if before is None or list(before.bounds) != list(self.bounds):
            return self
        counts = [max(0, now - then) for now, then in zip(self.counts, before.counts, strict=True)]
        return Buckets(self.bounds, counts, max(0.0, self.total - before.total))

    def quantile(self, share: float) -> float | None:
        """The value below which `share` (0..1) of the observations lie, evenly spread in each bucket; None of none."""
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
class Tally:
    """All of a member's metrics at one moment."""

    counters: Series = field(default_factory=dict)
    gauges: Series = field(default_factory=dict)
    histograms: dict[str, Buckets] = field(default_factory=dict)

    def total(self, metric: str) -> float:
        """A counter's sum over all its labels."""
        return sum(value for (name, _), value in self.counters.items() if name == metric)

    def by(self, metric: str, label: str) -> dict[str, int]:
        """A counter's values for each value of one label, but for zeros."""
        found: dict[str, int] = {}
        for (name, labels), value in self.counters.items():
            if name == metric and value:
                key = dict(labels).get(label, "")
                found[key] = found.get(key, 0) + int(value)
        return found

    def gauge(self, metric: str) -> float | None:
        """A gauge without labels; None where it was never set."""
        return self.gauges.get((metric, ()))


def tally(past: Mapping[str, Any], current: Mapping[str, Any]) -> Tally:
    """Two snapshots of `Meter` as one: counters and histograms add up, gauges are the current process's alone."""
    counters: Series = {}
    for snapshot in (past, current):
        for name, labels, value in snapshot.get("counters", ()):
            key = name, tuple(sorted(labels.items()))
            counters[key] = counters.get(key, 0.0) + value
    gauges: Series = {(name, tuple(sorted(labels.items()))): value for name, labels, value in current.get("gauges", ())}
    histograms: dict[str, Buckets] = {}
    for snapshot in (past, current):
        for name, raw in snapshot.get("histograms", {}).items():
            counted = Buckets(raw["bounds"], raw["counts"], raw["sum"])
            before = histograms.get(name)
            if before is not None and list(before.bounds) == list(counted.bounds):
                sums = [a + b for a, b in zip(before.counts, counted.counts, strict=True)]
                counted = Buckets(counted.bounds, sums, before.total + counted.total)
            histograms[name] = counted
    return Tally(counters, gauges, histograms)
