"""The fleet's knowledge as Prometheus metrics: a collector of our own, since counts come from other processes.

Names, types and help texts stand in one table. Labels are site and camera (never an address), `worker` for what every
process has, and those that a metric itself is split by.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from nvision_hub.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

    from workers.gateway.fleet import Fleet, Member
    from workers.gateway.tally import Series

PREFIX: Final = "nvision_hub_"
WEBSOCKET: Final = "websocket"
CALLBACK: Final = "callback"
_VIA: Final = ("via",)


@dataclass(frozen=True, slots=True)
class _Told:
    """One metric that members report: who of them, and which labels of theirs it has besides."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    of: Literal["camera", "worker", "hub"] = "camera"


_REASON: Final = ("reason",)
TOLD: Final[dict[str, _Told]] = {
    "packets_received_total": _Told("counter", "Packets of video that came from the camera."),
    "frames_decoded_total": _Told("counter", "Pictures decoded; a picture that is not needed is not."),
    "frames_sent_total": _Told("counter", "Pictures handed to a connection to the service; each may be charged for."),
    "frames_answered_total": _Told("counter", "Pictures sent to which an answer came."),
    "frames_unanswered_total": _Told("counter", "Pictures sent to which no answer came.", _REASON),
    "frames_in_flight": _Told("gauge", "Pictures sent whose answer is awaited."),
    "frames_dropped_total": _Told("counter", "Pictures not sent, so never charged for.", _REASON),
    "sent_bytes_total": _Told("counter", "Bytes of the pictures sent."),
    "results_received_total": _Told("counter", "Messages that came back from the service.", _VIA),
    "results_recovered_total": _Told("counter", "Results of an earlier process, found on disk.", _VIA),
    "results_published_total": _Told("counter", "Results that Redis has confirmed.", _VIA),
    "results_resent_total": _Told("counter", "Results sent again, since another Redis answered than before.", _VIA),
    "results_lost_total": _Told("counter", "Results that came back and were not published.", (*_REASON, *_VIA)),
    "results_waiting": _Told("gauge", "Results that are neither published nor lost.", _VIA),
    "spools_set_aside_total": _Told("counter", "Spool files that could not be read.", _VIA),
    "detections_total": _Told("counter", "Detections in the results.", ("name", *_VIA)),
    "camera_reconnects_total": _Told("counter", "Times the camera was opened anew.", _REASON),
    "uplink_reconnects_total": _Told("counter", "Times the connection to the service was made anew.", _REASON),
    "last_frame_timestamp_seconds": _Told("gauge", "When the last picture was captured, in seconds since the epoch."),
    "frame_age_seconds": _Told("histogram", "From a picture's capture to its way to the service."),
    "round_trip_seconds": _Told("histogram", "From a picture's way to the service to its result."),
    "publish_seconds": _Told("histogram", "From a result's arrival to Redis' confirmation."),
    "spool_events": _Told("gauge", "Events that wait for Redis.", _VIA),
    "worker_cpu_seconds_total": _Told("counter", "CPU time of the worker's processes, user and system.", of="worker"),
    "worker_memory_bytes": _Told("gauge", "Private memory of the worker's process.", of="worker"),
    "webhook_deliveries_total": _Told("counter", "Webhook deliveries tried.", ("webhook", "outcome"), of="hub"),
    "webhook_pending": _Told("gauge", "Webhook deliveries that wait.", ("webhook",), of="hub"),
    "webhook_delivery_seconds": _Told("histogram", "From a webhook's request to its answer.", of="hub"),
    "webhook_dead_total": _Told("counter", "Webhook deliveries given up.", ("webhook",), of="hub"),
    "mqtt_published_total": _Told("counter", "Results passed on to MQTT, or not.", ("outcome",), of="hub"),
    "mqtt_pending": _Told("gauge", "Results that wait for MQTT.", of="hub"),
    "config_reloads_total": _Told("counter", "Times a changed cameras.yaml was read.", ("outcome",), of="hub"),
}

_FAMILIES: Final = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
_OF: Final = {"camera": ("site", "camera"), "worker": ("site", "camera", "worker"), "hub": ("site",)}
_STATES: Final = tuple(str(state) for state in CameraState)
# A rate over a counter that appears with its first count misses that count, so these begin at zero.
_FROM_ZERO: Final = tuple(
    name for name, told in TOLD.items() if told.kind == "counter" and told.of == "camera" and told.labels in {(), _VIA}
)


class FleetCollector(Collector):
    """Tells of its fleet's present moment whenever it is asked."""

    def __init__(self, fleet: Fleet, *, site: str, version: str) -> None:
        self._fleet = fleet
        self._site = site
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Every metric of every member; one of which nobody has told anything has no samples."""
        build = GaugeMetricFamily(f"{PREFIX}build_info", "Always 1; its label is the version.", labels=["version"])
        build.add_metric([self._version], 1)
        yield build
        yield from self._states()
        yield self._restarts()
        yield from self._told()

    def _states(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(f"{PREFIX}camera_up", "1 while the camera streams.", labels=["site", "camera"])
        states = GaugeMetricFamily(
            f"{PREFIX}camera_state", "1 for the state that the camera is in.", labels=["site", "camera", "state"]
        )
        for member in self._fleet.cameras():
            camera = member.camera or ""
            up.add_metric([self._site, camera], member.state == CameraState.STREAMING)
            for state in _STATES:
                states.add_metric([self._site, camera, state], member.state == state)
        yield up
        yield states

    def _restarts(self) -> Metric:
        restarts = CounterMetricFamily(
            f"{PREFIX}worker_restarts_total",
            "Times the worker's process was started again.",
            labels=["site", "camera", "worker", "reason"],
        )
        for member in self._fleet.processes():
            for reason, count in member.account.restarts.items():
                restarts.add_metric([self._site, member.camera or "", member.name, reason], count)
        return restarts

    def _told(self) -> Iterable[Metric]:
        families = {
            name: _FAMILIES[told.kind](f"{PREFIX}{name}", told.help, labels=(*_OF[told.of], *told.labels))
            for name, told in TOLD.items()
        }
        for member in self._fleet.processes():
            counted = member.tally
            if counted is None:
                continue
            counters: Series = counted.counters
            if member.camera is not None:
                counters = {(name, ()): 0.0 for name in _FROM_ZERO} | counters
            for kind, series in (("counter", counters), ("gauge", counted.gauges)):
                for (name, labels), value in series.items():
                    told = TOLD.get(name)
                    if told is not None and told.kind == kind:
                        families[name].add_metric(self._labels(member, told, dict(labels)), value)
            for name, buckets in counted.histograms.items():
                told = TOLD.get(name)
                if told is not None and told.kind == "histogram":
                    at_most = (*map(str, map(float, buckets.bounds)), "+Inf")
                    counts = list(zip(at_most, accumulate(buckets.counts), strict=True))
                    families[name].add_metric(self._labels(member, told, {}), counts, buckets.total)
        return families.values()

    def _labels(self, member: Member, told: _Told, labels: dict[str, str]) -> list[str]:
        """Their values. What the gateway counts came by callback, and names its camera itself."""
        values = [self._site]
        if told.of != "hub":
            values.append(member.camera or labels.get("camera", ""))
        if told.of == "worker":
            values.append(member.name)
        via = WEBSOCKET if member.camera is not None else CALLBACK
        return values + [via if label == "via" else labels.get(label, "") for label in told.labels]
