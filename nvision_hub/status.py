"""What a worker reports, once a second: heartbeat, metrics and the operators' row, all in one record.

A worker counts in its `Meter`; `Status` is the snapshot that crosses the pipe. Metric names are those of the
metrics contract without their `nvision_hub_` prefix; `site` and `camera` labels are added where they are exposed.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

AGE_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Names of detections come from a service, and must not fill the pipe, the memory or a Prometheus server.
LABEL_SETS_MAX: Final = 200
OTHER: Final = "other"


class CameraState(StrEnum):
    """Where a camera stands, for operators; the names are part of the metrics contract."""

    STARTING = "starting"
    CONNECTING = "connecting"
    STREAMING = "streaming"
    PAUSED = "paused"
    STALLED = "stalled"
    AUTH_FAILED = "auth_failed"
    NOT_FOUND = "not_found"
    UNREACHABLE = "unreachable"
    UNSUPPORTED = "unsupported"
    CRASH_LOOP = "crash_loop"
    STOPPED = "stopped"


Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Histogram:
    """Counts of observed seconds per bucket (cumulated only where exposed), their sum and number."""

    bounds: tuple[float, ...] = AGE_BUCKETS_S
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        if not self.counts:
            self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value, in seconds."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Meter:
    """A worker's own counters, gauges and histograms. One thread writes each name, so no lock is needed."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, Labels], float] = {}
        self._label_sets: Counter[str] = Counter()
        self._gauges: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[str, Histogram] = {}

    def count(self, metric: str, /, by: float = 1, **labels: str) -> None:
        """Add `by` to a counter. Beyond `LABEL_SETS_MAX` of one counter, all new ones count as `OTHER`."""
        key = (metric, tuple(sorted(labels.items())))
        if key not in self._counters:
            if labels and self._label_sets[metric] >= LABEL_SETS_MAX:
                key = (metric, tuple((name, OTHER) for name, _ in key[1]))
            self._label_sets[metric] += 1
        self._counters[key] = self._counters.get(key, 0) + by

    def gauge(self, metric: str, /, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._gauges[metric, tuple(sorted(labels.items()))] = value

    def observe(self, name: str, seconds: float) -> None:
        """Add one duration to a histogram."""
        histogram = self._histograms.get(name)
        if histogram is None:
            histogram = self._histograms[name] = Histogram()
        histogram.observe(seconds)

    def value(self, metric: str, /, **labels: str) -> float:
        """One counter's value now; 0 where it never counted."""
        return self._counters.get((metric, tuple(sorted(labels.items()))), 0)

    def gauge_value(self, metric: str, /, **labels: str) -> float | None:
        """One gauge's value now; None where it was never set."""
        return self._gauges.get((metric, tuple(sorted(labels.items()))))

    def total(self, name: str) -> float:
        """The sum of one counter over all its labels."""
        # A copy: the other thread may add a key while this one walks.
        return sum(value for (key, _), value in list(self._counters.items()) if key == name)

    def reached(self, metric: str, /, value: float, **labels: str) -> None:
        """Set a counter that is counted elsewhere, such as the kernel's of this process."""
        self._counters[metric, tuple(sorted(labels.items()))] = value

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Add what another meter has counted; its gauges, which were of its moment, are left out."""
        for name, labels, value in snapshot.get("counters", ()):
            self.count(name, by=value, **labels)
        for name, other in snapshot.get("histograms", {}).items():
            mine = self._histograms.setdefault(name, Histogram(bounds=tuple(other["bounds"])))
            if list(mine.bounds) == other["bounds"]:
                mine.counts = [a + b for a, b in zip(mine.counts, other["counts"], strict=True)]
                mine.total += other["sum"]

    def snapshot(self) -> dict[str, Any]:
        """Everything, as JSON-ready lists: `[name, {label: value}, number]` and histograms by name."""
        return {
            "counters": [[name, dict(labels), value] for (name, labels), value in list(self._counters.items())],
            "gauges": [[name, dict(labels), value] for (name, labels), value in list(self._gauges.items())],
            "histograms": {
                name: {"bounds": list(h.bounds), "counts": list(h.counts), "sum": h.total}
                for name, h in list(self._histograms.items())
            },
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """One activity's last sign of progress, and how long it may be silent before its worker counts as stuck."""

    at: float  # monotonic seconds
    within_s: float

    def broken(self, now: float, *, judged_from: float = -math.inf) -> bool:
        """Whether the silence has lasted too long at `now`, not counting what of it lies before `judged_from`."""
        return now - max(self.at, judged_from) > self.within_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """One worker at one moment.

    `ready` once it does its job for others (accepts connections, has its first picture). `error` is the last
    sentence a person should read, None while all is well. `row` holds what a table of cameras shows.
    """

    pid: int
    at: float  # monotonic seconds; the clock is the machine's, so it compares across processes
    state: str
    ready: bool = False
    error: str | None = None
    promises: dict[str, Promise] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As one packet of the pipe."""
        # Not by `asdict`, which copies every number of the metrics one by one: a tenth of what results cost a worker.
        promises = {name: {"at": each.at, "within_s": each.within_s} for name, each in self.promises.items()}
        fields = {name: getattr(self, name) for name in self.__slots__} | {"promises": promises}
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """From one packet. Raises `ValueError` for anything else: one that went wrong must take nobody along."""
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError("not a status record") from error
        return cls.of(fields)

    @classmethod
    def of(cls, fields: Any) -> Self:
        """From decoded JSON. Raises `ValueError` for anything that is no status."""
        try:
            promises = {
                name: Promise(at=float(promise["at"]), within_s=float(promise["within_s"]))
                for name, promise in fields["promises"].items()
            }
            return cls(**{**fields, "promises": promises})
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError("not a status record") from error


class Rate:
    """Events per second over a sliding window, for people's eyes."""

    def __init__(self, window_s: float = 10.0) -> None:
        self._window_s = window_s
        self._marks: deque[tuple[float, float]] = deque()  # (monotonic, the counter then)

    def update(self, now: float, counter: float) -> float:
        """Note the counter at `now`; its rate per second since the window's start."""
        self._marks.append((now, counter))
        while len(self._marks) > 1 and now - self._marks[0][0] > self._window_s:
            self._marks.popleft()
        then, before = self._marks[0]
        return (counter - before) / (now - then) if now > then else 0.0
