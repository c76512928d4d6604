"""Responses of the API about cameras, hub and webhooks, built from the fleet's state.

Timestamps are ISO 8601 in UTC, durations are in seconds, and null means unknown.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import TypedDict  # pydantic supports typing.TypedDict only on Python 3.12 and later

from nvision_hub import __version__
from nvision_hub.access.tokens import RoleName  # noqa: TC001 - FastAPI reads the type at run time
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.snapshot import MetricSnapshot
from nvision_hub.runtime.messages import HubFacts
from nvision_hub.runtime.status import ServiceInfo, WebhooksInfo, WebhookSummary
from nvision_hub.timestamps import iso_utc
from workers.gateway.state.history import INTERVAL_S, HistoryPoints, Quantiles

if TYPE_CHECKING:
    from nvision_hub.metrics.catalogue import Counter
    from workers.gateway.auth.identity import Principal
    from workers.gateway.state.fleet import FleetState, MonitoredProcess


class SessionSummary(TypedDict):
    """The client of a request. `role` is null if its proxy reports no known role.

    `kind` is `token` for a client with a token, `proxy` for a user whom a proxy has authenticated, `user` for a user of
    this machine on the control socket, and `local` for any client of a gateway that needs no token.
    """

    name: str
    role: RoleName | None
    kind: Literal["token", "proxy", "user", "local"]


class WorkerSummary(TypedDict):
    """A process. `cpu` is the average number of CPU cores that the process used in the last ten seconds."""

    pid: int | None
    cpu: float | None
    memory_bytes: int | None


class Reconnects(TypedDict):
    """Numbers of reconnects to the camera and to the service, by reason."""

    camera: dict[str, int]
    uplink: dict[str, int]


class RuntimeOverrides(TypedDict):
    """Changes made at run time.

    `set` contains the settings that differ from cameras.yaml, and `file` contains their values in cameras.yaml. `added`
    is true if the camera itself was added at run time.
    """

    set: dict[str, Any]
    file: dict[str, Any]
    added: bool


class CameraSummary(TypedDict):
    """Current state of a camera.

    Counts include those of the camera's earlier processes. `fps` is configured; `rate_in` and `rate_out` are measured.
    `profile` is the media profile of an ONVIF camera.
    `scheduled` is the effect of the camera's schedule, such as `0.5/s until 06:00`; null while it has no effect.
    `limited_by` is the limit that withholds frames, such as `the site's images_per_day`; null if there is none.
    """

    id: str
    name: str | None
    labels: dict[str, str]
    state: str
    error: str | None
    since: str
    fps: float | None
    profile: str | None
    scheduled: str | None
    limited_by: str | None
    rate_in: float
    rate_out: float
    sent: int
    answered: int
    unanswered: dict[str, int]
    dropped: dict[str, int]
    sent_bytes: int
    results_received: int
    results_published: int
    results_lost: dict[str, int]
    spool: int
    age_s: Quantiles | None
    round_trip_s: Quantiles | None
    last_picture_at: str | None
    last_result_at: str | None
    seen: list[str]
    reconnects: Reconnects
    restarts: dict[str, int]
    worker: WorkerSummary
    paused: bool
    run_time: RuntimeOverrides


class PastError(TypedDict):
    """An error and the time at which it first occurred."""

    at: str
    error: str


class CameraDetail(CameraSummary):
    """A camera with its current settings (no secrets), its last errors (newest last) and all its metrics."""

    settings: dict[str, Any]
    errors: list[PastError]
    metrics: dict[str, float]


class CameraList(TypedDict):
    """All cameras, in the order of cameras.yaml."""

    cameras: list[CameraSummary]


class CameraHistory(HistoryPoints):
    """Points of the last half hour, `every_s` apart, newest last. `until` is the approximate time of the newest point.

    `dropped_by_reason_per_s` contains only the reasons that occurred. `dropped` counts all dropped frames up to the
    newest point, by reason; None if unknown.
    """

    every_s: float
    until: str
    dropped: dict[str, int] | None
    dropped_by_reason_per_s: dict[str, list[float | None]]


class ProcessSummary(WorkerSummary):
    """One process of the hub."""

    name: str
    phase: str
    restarts: dict[str, int]
    error: str | None


class ModelNames(TypedDict):
    """What the local service detects objects and faces with, as names for people."""

    objects: str
    faces: str


class HubSummary(TypedDict):
    """The hub and its processes. `models` is null without a local service."""

    site: str
    version: str
    started_at: str | None
    redis: str | None
    broker_up: bool
    service_up: bool
    models: ModelNames | None
    config_reloads: dict[str, int]
    reload_error: str | None
    processes: list[ProcessSummary]


class WebhookList(TypedDict):
    """All webhooks, in the order of cameras.yaml."""

    webhooks: list[WebhookSummary]


def camera_summary(fleet: FleetState, process: MonitoredProcess) -> CameraSummary:
    facts, info = process.facts, process.status.camera
    settings = facts.settings
    camera_id = process.camera or process.name
    metrics = process.metrics or MetricSnapshot()
    gateway = fleet.processes.get("gateway")
    counters = {} if gateway is None or gateway.metrics is None else gateway.metrics.counters
    # The gateway counts the results that arrive by callback, separately for each camera.
    by_callback = MetricSnapshot({key: value for key, value in counters.items() if ("camera", camera_id) in key[1]})
    last = process.last_status.camera
    result_at, names = last.last_result_at, info.seen
    if process.result_at is not None and process.result_at > (result_at or 0.0):
        result_at, names = process.result_at, process.result_names

    def total(metric: Counter) -> int:
        return int(metrics.total(metric) + by_callback.total(metric))

    def by_reason(metric: Counter) -> dict[str, int]:
        return metrics.by_label(metric, "reason")

    return CameraSummary(
        id=camera_id,
        name=settings.get("name"),
        labels=settings.get("labels", {}),
        state=process.state,
        error=process.error,
        since=iso_utc(process.since),
        fps=settings.get("fps", info.fps),
        profile=info.profile,
        scheduled=info.scheduled,
        limited_by=info.limited_by,
        rate_in=round(info.rate_in or 0.0, 2),
        rate_out=round(info.rate_out or 0.0, 2),
        sent=total(catalogue.FRAMES_SENT_TOTAL),
        answered=total(catalogue.FRAMES_ANSWERED_TOTAL),
        unanswered=by_reason(catalogue.FRAMES_UNANSWERED_TOTAL),
        dropped=by_reason(catalogue.FRAMES_DROPPED_TOTAL),
        sent_bytes=total(catalogue.SENT_BYTES_TOTAL),
        results_received=total(catalogue.RESULTS_RECEIVED_TOTAL),
        results_published=total(catalogue.RESULTS_PUBLISHED_TOTAL),
        results_lost=by_reason(catalogue.RESULTS_LOST_TOTAL),
        spool=int(metrics.gauge(catalogue.SPOOL_EVENTS) or 0),
        age_s=process.history.quantiles("age"),
        round_trip_s=process.history.quantiles("round_trip"),
        last_picture_at=None if last.last_frame_at is None else iso_utc(last.last_frame_at),
        last_result_at=None if result_at is None else iso_utc(result_at),
        seen=list(names),
        reconnects=Reconnects(
            camera=by_reason(catalogue.CAMERA_RECONNECTS_TOTAL), uplink=by_reason(catalogue.UPLINK_RECONNECTS_TOTAL)
        ),
        restarts=process.info.restarts,
        worker=worker_summary(process),
        paused=facts.paused,
        run_time=RuntimeOverrides(set=facts.overrides, file=facts.values_in_file, added=facts.added),
    )


def camera_summaries(fleet: FleetState) -> list[CameraSummary]:
    return [camera_summary(fleet, process) for process in fleet.cameras()]


def camera_detail(fleet: FleetState, process: MonitoredProcess) -> CameraDetail:
    return CameraDetail(
        **camera_summary(fleet, process),
        settings=process.facts.settings,
        errors=[PastError(at=iso_utc(at), error=error) for at, error in process.errors],
        metrics={} if process.metrics is None else _by_series_name(process.metrics),
    )


def camera_history(process: MonitoredProcess) -> CameraHistory:
    history = process.history
    return CameraHistory(
        every_s=INTERVAL_S,
        until=iso_utc(time.time()),
        dropped=history.dropped_counts(),
        dropped_by_reason_per_s=history.dropped(),
        **history.points(),
    )


def worker_summary(process: MonitoredProcess) -> WorkerSummary:
    cpu = process.history.cpu()
    memory = None if process.metrics is None else process.metrics.gauge(catalogue.WORKER_MEMORY_BYTES)
    return WorkerSummary(
        pid=process.info.pid,
        cpu=None if cpu is None or process.info.pid is None else round(cpu, 4),
        memory_bytes=None if memory is None else int(memory),
    )


def _model_names(service: MonitoredProcess | None) -> ModelNames | None:
    info = None if service is None else service.last_status.info
    return ModelNames(objects=info.object_model, faces=info.face_model) if isinstance(info, ServiceInfo) else None


def hub_summary(fleet: FleetState, *, site: str, broker_up: bool) -> HubSummary:
    hub, service = fleet.processes.get("hub"), fleet.processes.get("service")
    started = None if hub is None else hub.info.started_at
    facts = None if hub is None else hub.info.facts
    if not isinstance(facts, HubFacts):  # the hub has not reported its facts yet
        facts = HubFacts(site=site, version=__version__)
    is_streaming = any(process.state == "streaming" for process in fleet.cameras())
    return HubSummary(
        site=facts.site,
        version=facts.version,
        started_at=None if started is None else iso_utc(time.time() - time.monotonic() + started),
        redis=facts.redis,
        broker_up=broker_up,
        # True if frames can be sent: the local service is ready, or a camera streams to a remote service.
        service_up=is_streaming if service is None else service.status.ready,
        models=_model_names(service),
        config_reloads=facts.config_reloads,
        reload_error=facts.reload_error,
        processes=[
            ProcessSummary(
                name=process.name,
                phase=process.info.phase,
                restarts=process.info.restarts,
                error=process.error,
                **worker_summary(process),
            )
            for process in fleet.processes.values()
        ],
    )


def webhook_summaries(fleet: FleetState) -> list[WebhookSummary]:
    """Return all webhooks with the dispatcher's last report. If a webhook has no report yet, its counts are 0."""
    dispatcher = fleet.processes.get("webhooks")
    info = None if dispatcher is None else dispatcher.last_status.info
    reported = {webhook.id: webhook for webhook in info.webhooks} if isinstance(info, WebhooksInfo) else {}
    return [
        reported.get(webhook["id"]) or WebhookSummary(id=webhook["id"], url=webhook["url"])
        for webhook in fleet.webhooks()
    ]


def _by_series_name(metrics: MetricSnapshot) -> dict[str, float]:
    """Return counters and gauges. The keys are the series in Prometheus notation (name and labels)."""
    by_name = {}
    for (name, pairs), value in (*metrics.counters.items(), *metrics.gauges.items()):
        labels = ",".join(f'{label}="{text}"' for label, text in pairs)
        by_name[f"{name}{{{labels}}}" if labels else name] = value
    return by_name


def session_summary(principal: Principal) -> SessionSummary:
    return SessionSummary(name=principal.name, role=principal.role, kind=principal.kind)
