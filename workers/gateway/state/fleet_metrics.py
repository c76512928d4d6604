"""Metrics of all processes of the fleet in the Prometheus text exposition format 0.0.4.

A hundred cameras have 9,000 samples, and the text before each number is the same in every scrape. This module caches
that text. A scrape therefore takes an eighth of the time that prometheus-client needs (measured).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from nvision_hub import __version__
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.catalogue import METRICS, OF_CAMERA, OF_RESULTS, Counter
from nvision_hub.metrics.snapshot import MetricSnapshot
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nvision_hub.metrics.snapshot import Series, SeriesKey
    from workers.gateway.state.fleet import FleetState, MonitoredProcess

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "nvision_hub_"
_STATES: Final = tuple(str(state) for state in CameraState)  # a dict finds strings faster than enum members
_NO_RESTARTS: Final = dict.fromkeys(catalogue.WORKER_RESTARTS_TOTAL.known_reasons, 0)
_NOT_FINITE: Final = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}
_EXPOSED: Final = {metric.name: metric for metric in METRICS.values() if metric.exposed}
# Counters to expose as 0 for each camera before the first count.
_CAMERA_ZEROS: Final[Series] = {
    (metric.name, (("reason", reason),) if reason else ()): 0.0
    for metric in METRICS.values()
    if isinstance(metric, Counter) and "worker" not in metric.labels
    for reason in metric.known_reasons or ("",) * (metric.labels in {OF_CAMERA, OF_RESULTS})
}


class FleetMetrics:
    def __init__(self, fleet: FleetState, *, site: str) -> None:
        self._fleet = fleet
        self._site = site
        # Text before each number, by process and metric type; empty for series that are not exposed.
        self._texts: dict[tuple[str, str], dict[SeriesKey, str]] = {}

    def text(self, *, broker_up: bool | None = None) -> bytes:
        """Return all exposed metrics. `broker_up` is None while the state of Redis is unknown."""
        lines = {
            name: [f"# HELP {PREFIX}{name} {metric.help}", f"# TYPE {PREFIX}{name} {metric.type}"]
            for name, metric in _EXPOSED.items()
        }
        before, self._texts = self._texts, {}
        for process, labels, metrics in self._sources(broker_up):
            for kind, series in ("counter", metrics.counters), ("gauge", metrics.gauges):
                texts = self._texts[process, kind] = before.get((process, kind), {})
                for key, value in series.items():
                    text = texts.get(key)
                    if text is None:
                        text = texts[key] = _text(kind, key[0], key, labels)
                    if text:
                        lines[key[0]].append(f"{text} {_number(value)}")
            for name, buckets in metrics.histograms.items():
                if name in _EXPOSED:
                    counts = list(accumulate(buckets.counts))
                    numbers = (*counts, _number(buckets.total), counts[-1])
                    bucket_texts = _bucket_texts(name, buckets.bounds, tuple(labels.items()))
                    lines[name] += [f"{text} {number}" for text, number in zip(bucket_texts, numbers, strict=False)]
        return "\n".join(line for family in lines.values() for line in (*family, "")).encode()

    def _sources(self, broker_up: bool | None) -> Iterator[tuple[str, dict[str, str], MetricSnapshot]]:  # noqa: FBT001 - private
        """Yield the name of each process, the labels to add to its series, and its metrics."""
        gauges: Series = {(catalogue.BUILD_INFO.name, (("version", __version__),)): 1}
        if broker_up is not None:
            gauges[catalogue.BROKER_UP.name, ()] = broker_up
        yield "", {"site": self._site}, MetricSnapshot(gauges=gauges)
        for process in self._fleet.processes.values():
            # Only the gateway counts results that arrive by callback. These series already have a camera label.
            via = "callback" if process.camera is None else "websocket"
            labels = {"site": self._site, "camera": process.camera or "", "worker": process.name, "via": via}
            yield process.name, labels, _metrics(process)


def _metrics(process: MonitoredProcess) -> MetricSnapshot:
    """Return the metrics of the process, including its state and restarts."""
    restarts = _NO_RESTARTS | process.info.restarts
    counters: Series = {
        (catalogue.WORKER_RESTARTS_TOTAL.name, (("reason", reason),)): count for reason, count in restarts.items()
    }
    gauges: Series = {}
    if process.camera is not None:
        gauges[catalogue.CAMERA_UP.name, ()] = process.state == CameraState.STREAMING
        for state in _STATES:
            gauges[catalogue.CAMERA_STATE.name, (("state", state),)] = process.state == state
    counted = process.metrics
    if counted is None:
        return MetricSnapshot(counters, gauges)
    zeros = _CAMERA_ZEROS if process.camera is not None else {}
    return MetricSnapshot(counters | zeros | counted.counters, gauges | counted.gauges, counted.histograms)


@lru_cache(maxsize=10_000)
def _bucket_texts(name: str, bounds: tuple[float, ...], labels: tuple[tuple[str, str], ...]) -> list[str]:
    """Return the texts before the numbers of buckets, sum and count; empty if the histogram is not exposed."""
    limits = (*(repr(float(bound)) for bound in bounds), "+Inf")
    keys = [*((f"{name}_bucket", (("le", limit),)) for limit in limits), (f"{name}_sum", ()), (f"{name}_count", ())]
    return [text for key in keys if (text := _text("histogram", name, key, dict(labels)))]


def _text(kind: str, name: str, key: SeriesKey, labels: Mapping[str, str]) -> str:
    """Return the text before a number; empty unless the catalogue exposes a metric of this name and type."""
    metric = _EXPOSED.get(name)
    if metric is None or metric.type != kind:
        return ""
    own = dict(key[1])
    shown = {label: labels.get(label) or own.get(label, "") for label in metric.labels}
    if "le" in own:
        shown["le"] = own["le"]
    inside = ",".join(f'{label}="{_escape(value)}"' for label, value in shown.items())
    return f"{PREFIX}{key[0]}{{{inside}}}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    text = repr(+value)  # True becomes 1
    return _NOT_FINITE.get(text, text)
