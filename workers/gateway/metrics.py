"""The fleet's knowledge as Prometheus metrics, in their text format (0.0.4).

Names, types and help texts stand in one table. Labels are site and camera (never an address), `worker` for what every
process has, and those that a metric itself is split by.

Written here and not by prometheus-client, since a hundred cameras have 9,000 samples: what stands before a number is
the same in each scrape, so it is kept, which makes a scrape cost an eighth of what it does there (measured).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal

from nvision_hub.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvision_hub.status import Labels
    from workers.gateway.fleet import Fleet, Member
    from workers.gateway.tally import Buckets, Series, Tally

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
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
    "uplink_up": _Told("gauge", "1 while there is a connection to the service."),
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
    "worker_memory_bytes": _Told("gauge", "Private memory of the worker's processes.", of="worker"),
    "webhook_deliveries_total": _Told("counter", "Webhook deliveries tried.", ("webhook", "outcome"), of="hub"),
    "webhook_pending": _Told("gauge", "Webhook deliveries that wait.", ("webhook",), of="hub"),
    "webhook_delivery_seconds": _Told("histogram", "From a webhook's request to its answer.", of="hub"),
    "webhook_dead_total": _Told("counter", "Webhook deliveries given up.", ("webhook",), of="hub"),
    "webhook_missed_total": _Told("counter", "Results that left Redis before their delivery.", ("webhook",), of="hub"),
    "mqtt_published_total": _Told("counter", "Results passed on to MQTT, or not.", ("outcome",), of="hub"),
    "mqtt_pending": _Told("gauge", "Results that wait for MQTT.", of="hub"),
    "config_reloads_total": _Told("counter", "Times a changed cameras.yaml was read.", ("outcome",), of="hub"),
}

_OWN: Final[dict[str, _Told]] = {
    "build_info": _Told("gauge", "Always 1; its label is the version."),
    "broker_up": _Told("gauge", "1 while Redis answers."),
    "camera_up": _Told("gauge", "1 while the camera streams."),
    "camera_state": _Told("gauge", "1 for the state that the camera is in."),
    "worker_restarts_total": _Told("counter", "Times the worker's process was started again."),
}
_STATES: Final = tuple(str(state) for state in CameraState)
# A rate over a counter that appears with its first count misses that count, so these begin at zero: all without a
# reason, and the reasons that are known beforehand.
_KNOWN: Final = {
    "frames_dropped_total": ("broken", "late", "lease", "overwritten", "paused", "stopped", "torn", "uplink"),
    "frames_unanswered_total": ("callback", "stopped", "timeout", "uplink"),
    "results_lost_total": (
        *("disk_full", "duplicate", "late", "redis_away", "spool_corrupt", "spool_full", "spool_old"),
        *("stopped", "too_large", "unknown_frame", "unreadable"),
    ),
    "camera_reconnects_total": ("auth_failed", "not_found", "stalled", "unreachable", "unsupported"),
    "uplink_reconnects_total": ("key_refused", "lost", "network", "refused", "timeout", "tls", "try_later"),
}
_RESTARTS_KNOWN: Final = ("asked", "changed", "exit_1", "sigkill", "stuck")
_FROM_ZERO: Final[Series] = {
    (name, ()): 0.0
    for name, told in TOLD.items()
    if told.kind == "counter" and told.of == "camera" and told.labels in {(), _VIA}
} | {(name, (("reason", reason),)): 0.0 for name, reasons in _KNOWN.items() for reason in reasons}


class Exposition:
    """All metrics of one fleet; `text` tells of its present moment."""

    def __init__(self, fleet: Fleet, *, site: str, version: str) -> None:
        self._fleet = fleet
        self._site = site
        self._build = _name("build_info", version=version)
        # What stands before each number, by member; those of a member go with it.
        self._names: dict[str, dict[tuple[str, Labels], str]] = {}
        self._buckets: dict[str, dict[str, list[str]]] = {}

    def text(self, *, broker_up: bool | None = None) -> bytes:
        """Every metric of every member; one of which nobody has told anything has no samples.

        `broker_up` is whether Redis answers, None where nobody has asked it.
        """
        lines: dict[str, list[str]] = {
            name: [f"# HELP {PREFIX}{name} {told.help}", f"# TYPE {PREFIX}{name} {told.kind}"]
            for name, told in (_OWN | TOLD).items()
        }
        lines["build_info"].append(f"{self._build} 1")
        if broker_up is not None:
            lines["broker_up"].append(f"{_name('broker_up', site=self._site)} {int(broker_up)}")
        members = list(self._fleet.members.values())
        for gone in self._names.keys() - self._fleet.members.keys():
            del self._names[gone]
            self._buckets.pop(gone, None)
        for member in members:
            self._standing(member, lines)
            counted = member.tally
            if counted is not None:
                self._counted(member, counted, lines)
        return "\n".join(line for family in lines.values() for line in (*family, "")).encode()

    def _standing(self, member: Member, lines: dict[str, list[str]]) -> None:
        camera = member.camera
        names = self._names.setdefault(member.name, {})
        if camera is not None:
            for name, states in (("camera_up", (CameraState.STREAMING,)), ("camera_state", _STATES)):
                for state in states:
                    key = name, (("state", str(state)),)
                    if key not in names:
                        own = {"state": state} if name == "camera_state" else {}
                        names[key] = _name(name, site=self._site, camera=camera, **own)
                    lines[name].append(f"{names[key]} {int(member.state == state)}")
        for reason, count in (dict.fromkeys(_RESTARTS_KNOWN, 0) | dict(member.account.restarts)).items():
            worker = {"site": self._site, "camera": camera or "", "worker": member.name, "reason": reason}
            lines["worker_restarts_total"].append(f"{_name('worker_restarts_total', **worker)} {count}")

    def _counted(self, member: Member, counted: Tally, lines: dict[str, list[str]]) -> None:
        names = self._names[member.name]
        counters = counted.counters if member.camera is None else _FROM_ZERO | counted.counters
        for kind, series in (("counter", counters), ("gauge", counted.gauges)):
            for key, value in series.items():
                told = TOLD.get(key[0])
                if told is None or told.kind != kind:
                    continue
                before = names.get(key)
                if before is None:
                    before = names[key] = _name(key[0], **self._labels(member, told, dict(key[1])))
                lines[key[0]].append(f"{before} {_number(value)}")
        for name, buckets in counted.histograms.items():
            told = TOLD.get(name)
            if told is not None and told.kind == "histogram":
                lines[name] += self._histogram(member, name, told, buckets)

    def _histogram(self, member: Member, name: str, told: _Told, buckets: Buckets) -> Iterable[str]:
        known = self._buckets.setdefault(member.name, {})
        before = known.get(name)
        if before is None or len(before) != len(buckets.counts) + 2:
            labels = self._labels(member, told, {})
            at_most = (*(repr(float(bound)) for bound in buckets.bounds), "+Inf")
            before = [_name(f"{name}_bucket", **labels, le=bound) for bound in at_most]
            before += [_name(f"{name}_sum", **labels), _name(f"{name}_count", **labels)]
            known[name] = before
        counts = list(accumulate(buckets.counts))
        values = (*counts, _number(buckets.total), counts[-1])
        return [f"{text} {value}" for text, value in zip(before, values, strict=True)]

    def _labels(self, member: Member, told: _Told, labels: dict[str, str]) -> dict[str, str]:
        """All of a sample. What the gateway counts came by callback, and names its camera itself."""
        found = {"site": self._site}
        if told.of != "hub":
            found["camera"] = member.camera or labels.get("camera", "")
        if told.of == "worker":
            found["worker"] = member.name
        via = WEBSOCKET if member.camera is not None else CALLBACK
        return found | {label: via if label == "via" else labels.get(label, "") for label in told.labels}


def _name(metric: str, **labels: str) -> str:
    """A sample's name with its labels."""
    inside = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
    return f"{PREFIX}{metric}{{{inside}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(+value)  # True is 1
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
