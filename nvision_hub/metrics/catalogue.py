"""Catalogue of every metric of the hub: name, type, help text and labels.

Callers pass one of these constants, so a typo cannot create a new metric. The name of a metric is the name of its
constant in lower case. The exposition adds the prefix `nvision_hub_` and the labels of the process: `site`, `camera`,
`worker` and `via`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OF_HUB = ("site",)
OF_CAMERA = ("site", "camera")
OF_WORKER = ("site", "camera", "worker")
OF_RESULTS = ("site", "camera", "via")  # `via` is `websocket` or `callback`
OF_WEBHOOK = ("site", "webhook")
BY_REASON = ("site", "camera", "reason")
BY_OUTCOME = ("site", "outcome")


@dataclass(eq=False, slots=True)
class Metric:
    """One metric. `labels` are the labels of its series, in the order of the exposition.

    The exposition includes the series of `known_reasons` with value 0 from the start, because Prometheus's `rate`
    ignores the first value of a series. A metric with `exposed=False` appears only in status reports.
    """

    help: str
    labels: tuple[str, ...] = OF_CAMERA
    known_reasons: tuple[str, ...] = ()
    exposed: bool = True
    name: str = ""

    @property
    def type(self) -> str:
        """Metric type as Prometheus names it."""
        return type(self).__name__.lower()


class Counter(Metric):
    """Total that never decreases."""


class Gauge(Metric):
    """Value at one moment."""


class Histogram(Metric):
    """Distribution of durations in seconds."""


BUILD_INFO = Gauge("Always 1; the label holds the version.", ("version",))
BROKER_UP = Gauge("1 while Redis replies.", OF_HUB)
CAMERA_UP = Gauge("1 while the camera streams.")
CAMERA_STATE = Gauge("1 for the current state of the camera.", ("site", "camera", "state"))
CAMERA_TARGET_FPS = Gauge("Frames per second that the camera should send now; 0 while it is paused.")
WORKER_RESTARTS_TOTAL = Counter(
    "Restarts of the worker's process.", (*OF_WORKER, "reason"), ("asked", "changed", "exit_1", "sigkill", "stuck")
)

PACKETS_RECEIVED_TOTAL = Counter("Video packets received from the camera.")
FRAMES_DECODED_TOTAL = Counter("Frames decoded; the hub decodes only the frames that it needs.")
CAMERA_RECONNECTS_TOTAL = Counter(
    "Reconnects to the camera.", BY_REASON, ("auth_failed", "not_found", "stalled", "unreachable", "unsupported")
)
LAST_FRAME_TIMESTAMP_SECONDS = Gauge("Capture time of the last frame, in seconds since the epoch.")
CAMERA_IDLE = Gauge("1 while the camera itself reports no motion, so that the hub sends no frames.")
MOTION_EVENTS_TOTAL = Counter("Motion events received from the camera.")
MOTION_SUBSCRIPTIONS_LOST_TOTAL = Counter(
    "Lost or failed subscriptions to the camera's motion events.",
    BY_REASON,
    ("auth_failed", "not_found", "stalled", "unreachable", "unsupported"),
)
MOTION_ACTIVE = Gauge("1 while the camera sees motion.", exposed=False)

UPLINK_UP = Gauge("1 while connected to the service.")
UPLINK_RECONNECTS_TOTAL = Counter(
    "Reconnects to the service.",
    BY_REASON,
    ("key_refused", "lost", "network", "refused", "timeout", "tls", "try_later"),
)
FRAMES_SENT_TOTAL = Counter("Frames written to the service's connection; the service may charge for each.")
SENT_BYTES_TOTAL = Counter("Bytes of the frames sent.")
FRAMES_ANSWERED_TOTAL = Counter("Sent frames that received a reply.")
FRAMES_UNANSWERED_TOTAL = Counter(
    "Sent frames that received no reply.", BY_REASON, ("callback", "skipped", "stopped", "timeout", "uplink")
)
FRAMES_IN_FLIGHT = Gauge("Sent frames that still wait for a reply.")
FRAMES_DROPPED_TOTAL = Counter(
    "Frames that were not sent and are therefore not charged for.",
    BY_REASON,
    ("broken", "budget", "late", "lease", "overwritten", "paused", "refreshing", "stopped", "torn", "uplink"),
)
FRAME_AGE_SECONDS = Histogram("Time from a frame's capture to its sending.")
ROUND_TRIP_SECONDS = Histogram("Time from a frame's sending to its result.")

IMAGES_SENT_TOTAL = Counter("Images that cameras of a site with a budget sent, or may have sent.", OF_HUB)
IMAGES_WRITTEN_OFF_TOTAL = Counter(
    "Images in images_sent_total that no worker reported, because a process was killed.", OF_HUB
)
BUDGET_USED_IMAGES = Gauge(
    "Images used in this hour, day or month. The series without a camera is for the site.", (*OF_CAMERA, "window")
)
BUDGET_LIMIT_IMAGES = Gauge("Images allowed in this hour, day or month.", (*OF_CAMERA, "window"))

RESULTS_RECEIVED_TOTAL = Counter("Messages received from the service, without notices of skipped frames.", OF_RESULTS)
DETECTIONS_TOTAL = Counter("Detections in the results.", ("site", "camera", "name", "via"))
RESULTS_RECOVERED_TOTAL = Counter("Results of an earlier process, found on disk.", OF_RESULTS)
RESULTS_PUBLISHED_TOTAL = Counter("Results that Redis has confirmed.", OF_RESULTS)
RESULTS_RESENT_TOTAL = Counter("Results published again because Redis restarted or failed over.", OF_RESULTS)
RESULTS_LOST_TOTAL = Counter(
    "Received results that were not published.",
    ("site", "camera", "reason", "via"),
    (
        *("disk_full", "duplicate", "late", "redis_away", "spool_corrupt", "spool_full", "spool_old"),
        *("stopped", "too_large", "unknown_frame", "unreadable"),
    ),
)
RESULTS_WAITING = Gauge("Results that are neither published nor lost.", OF_RESULTS)
SPOOL_EVENTS = Gauge("Events that wait for Redis.", OF_RESULTS)
SPOOLS_SET_ASIDE_TOTAL = Counter("Spool files that could not be read.", OF_RESULTS)
PUBLISH_SECONDS = Histogram("Time from a result's arrival to its confirmation by Redis.")

TRACKS_TOTAL = Counter("Tracks that have started.", ("site", "camera", "class"))
TRACKS_OPEN = Gauge("Tracks that have started and not ended.")
TRACK_EVENTS_TOTAL = Counter("Events of tracks.", ("site", "camera", "type"))
TRACK_EVENTS_LOST_TOTAL = Counter(
    "Events of tracks that were not published.", BY_REASON, ("disk_full", "redis_away", "spool_full", "spool_old")
)
TRACK_EVENTS_WAITING = Gauge("Events of tracks that are neither published nor lost.")
ZONE_OCCUPANCY = Gauge("Objects in the zone.", ("site", "camera", "zone", "class"))
LINE_CROSSINGS_TOTAL = Counter("Crossings of the line.", ("site", "camera", "line", "direction", "class"))

WORKER_CPU_SECONDS_TOTAL = Counter("CPU time of the worker's processes, user and system.", OF_WORKER)
WORKER_MEMORY_BYTES = Gauge("Private memory of the worker's processes.", OF_WORKER)

WEBHOOK_DELIVERIES_TOTAL = Counter("Attempts to deliver to the webhook.", (*OF_WEBHOOK, "outcome"))
WEBHOOK_PENDING = Gauge("Webhook deliveries that wait.", OF_WEBHOOK)
WEBHOOK_DELIVERY_SECONDS = Histogram("Time from a webhook's request to its response.", OF_HUB)
WEBHOOK_DEAD_TOTAL = Counter("Webhook deliveries dead-lettered.", OF_WEBHOOK)
WEBHOOK_SKIPPED_TOTAL = Counter("Results and track events that were not sent, by reason.", (*OF_WEBHOOK, "reason"))
WEBHOOK_MISSED_TOTAL = Counter("Results and track events that Redis discarded before they were delivered.", OF_WEBHOOK)
REDIS_ENTRIES_REJECTED_TOTAL = Counter(
    "Messages and entries in Redis that are not from a hub, and were set aside.", ("site", "source")
)
MQTT_PUBLISHED_TOTAL = Counter("Results processed for MQTT, by outcome.", BY_OUTCOME)
MQTT_TRACK_EVENTS_TOTAL = Counter("Track events processed for MQTT, by outcome.", BY_OUTCOME)
MQTT_PENDING = Gauge("Results and track events that wait for MQTT.", OF_HUB)
CONFIG_RELOADS_TOTAL = Counter("Reloads of cameras.yaml.", BY_OUTCOME)
OVERRIDES_REJECTED_TOTAL = Counter("Stored run-time changes that were not restored because they are invalid.", OF_HUB)
FLEET_ENTRIES_REJECTED_TOTAL = Counter(
    "Records, commands, replies and leases in Redis that were ignored.", (*OF_WORKER, "kind", "reason")
)

SERVICE_REQUESTS_TOTAL = Counter("Images received by the local service.", ("site", "service"), exposed=False)
SERVICE_DETECTIONS_TOTAL = Counter("Detections by the local service.", ("site", "service", "name"), exposed=False)
SERVICE_REFUSED_TOTAL = Counter("Requests that the local service refused.", ("site", "reason"), exposed=False)
SERVICE_CALLBACKS_TOTAL = Counter("Callbacks sent by the local service.", BY_OUTCOME, exposed=False)
SERVICE_SECONDS = Histogram("Time that the local service takes to process an image.", OF_HUB, exposed=False)
SERVICE_CONNECTIONS = Gauge("Open connections to the local service.", OF_HUB, exposed=False)
SERVICE_SOURCES = Gauge("Sources that the local service tracks.", OF_HUB, exposed=False)

METRICS: Final = {name.lower(): metric for name, metric in tuple(globals().items()) if isinstance(metric, Metric)}
for _name, _metric in METRICS.items():
    _metric.name = _name
