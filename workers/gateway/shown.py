"""What the API and the page are shown: the fleet's knowledge as JSON values. Pure; its types are the API's schemas.

Instants are ISO 8601 in UTC, durations seconds, None what is not known.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict  # pydantic takes the standard library's from Python 3.12 on only

from nvision_hub.wire import timestamp
from workers.gateway.fleet import GATEWAY, HUB, SERVICE, WEBHOOKS
from workers.gateway.track import EVERY_S

if TYPE_CHECKING:
    from workers.gateway.fleet import Fleet, Member
    from workers.gateway.tally import Tally


class Quantiles(TypedDict):
    """Seconds below which half, and 99 of 100, of the last minute's durations lay."""

    p50: float
    p99: float


class Worker(TypedDict):
    """A process; `cpu` is the cores it took over the last ten seconds."""

    pid: int | None
    cpu: float | None
    memory_bytes: int | None


class Reconnects(TypedDict):
    """How often each connection was made anew, by reason."""

    camera: dict[str, int]
    uplink: dict[str, int]


class RunTime(TypedDict):
    """What was changed while the hub runs; `set` holds the settings that differ from those of the `file`."""

    set: dict[str, Any]
    file: dict[str, Any]
    added: bool


class Camera(TypedDict):
    """One camera now. Counts are of all its processes; `fps` is asked for, `rate_in` and `rate_out` are measured."""

    id: str
    name: str | None
    labels: dict[str, str]
    state: str
    error: str | None
    since: str
    fps: float | None
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
    worker: Worker
    paused: bool
    run_time: RunTime


class PastError(TypedDict):
    """An error and when it began."""

    at: str
    error: str


class CameraDetail(Camera):
    """One camera with its settings in force (no secrets), its last errors, newest last, and everything it counts."""

    settings: dict[str, Any]
    errors: list[PastError]
    metrics: dict[str, float]


class Cameras(TypedDict):
    """All of them, in the order of their file."""

    cameras: list[Camera]


class History(TypedDict):
    """Half an hour in steps of `every_s`, newest last, which was at `until`. Drops are of the reasons that occurred."""

    every_s: float
    until: str
    rate_in: list[float | None]
    rate_out: list[float | None]
    age_p50_s: list[float | None]
    age_p99_s: list[float | None]
    round_trip_p50_s: list[float | None]
    dropped_per_s: list[float | None]
    dropped_by_reason_per_s: dict[str, list[float | None]]


class Process(TypedDict):
    """One process of the hub."""

    name: str
    phase: str
    pid: int | None
    cpu: float | None
    memory_bytes: int | None
    restarts: dict[str, int]
    error: str | None


class Hub(TypedDict):
    """The hub as a whole."""

    site: str
    version: str
    started_at: str | None
    redis: str | None
    broker_up: bool
    service_up: bool
    config_reloads: dict[str, int]
    reload_error: str | None
    processes: list[Process]


class Webhook(TypedDict):
    """One webhook: deliveries `pending` and `retrying` wait, `dead` were given up on. Counts are since it first ran."""

    id: str
    url: str
    state: str
    pending: int
    retrying: int
    dead: int
    delivered: int
    failed: int
    last_error: str | None
    last_delivery_at: str | None
    p50_s: float | None
    p99_s: float | None


class Webhooks(TypedDict):
    """All of them, in the order of their file."""

    webhooks: list[Webhook]


def instant(at: float | None) -> str | None:
    """Seconds since the epoch, as the API writes them."""
    return None if at is None else timestamp(datetime.fromtimestamp(at, UTC))


def camera(fleet: Fleet, member: Member) -> Camera:
    """One camera."""
    facts, row = member.account.facts, member.row
    settings, run_time = facts.get("camera", {}), facts.get("run_time", {})
    camera_id = member.camera or member.name
    counted = member.tally
    by_callback = _of_gateway(fleet, camera_id)
    last = member.last.row if member.last is not None else {}
    result_at, seen = last.get("last_result_at"), row.get("seen", ())
    if member.result_at is not None and member.result_at > (result_at or 0.0):
        result_at, seen = member.result_at, member.result_names

    def total(metric: str) -> int:
        return 0 if counted is None else int(counted.total(metric))

    def by(metric: str, label: str = "reason") -> dict[str, int]:
        return {} if counted is None else counted.by(metric, label)

    return Camera(
        id=camera_id,
        name=settings.get("name"),
        labels=settings.get("labels", {}),
        state=member.state,
        error=member.error,
        since=instant(member.since) or "",
        fps=settings.get("fps", row.get("fps")),
        rate_in=round(row.get("rate_in") or 0.0, 2),
        rate_out=round(row.get("rate_out") or 0.0, 2),
        sent=total("frames_sent_total"),
        answered=total("frames_answered_total"),
        unanswered=by("frames_unanswered_total"),
        dropped=by("frames_dropped_total"),
        sent_bytes=total("sent_bytes_total"),
        results_received=total("results_received_total") + by_callback.get("results_received_total", 0),
        results_published=total("results_published_total") + by_callback.get("results_published_total", 0),
        results_lost=by("results_lost_total"),
        spool=int((counted and counted.gauge("spool_events")) or 0),
        age_s=_quantiles(member.track.age_s()),
        round_trip_s=_quantiles(member.track.round_trip_s()),
        last_picture_at=instant(last.get("last_frame_at")),
        last_result_at=instant(result_at),
        seen=list(seen),
        reconnects=Reconnects(camera=by("camera_reconnects_total"), uplink=by("uplink_reconnects_total")),
        restarts={reason: int(count) for reason, count in member.account.restarts.items()},
        worker=_worker(member),
        paused=bool(run_time.get("paused", False)),
        run_time=RunTime(
            set=dict(run_time.get("set", {})),
            file=dict(run_time.get("file", {})),
            added=bool(run_time.get("added", False)),
        ),
    )


def cameras(fleet: Fleet) -> list[Camera]:
    """All of them, in the order of their file."""
    return [camera(fleet, member) for member in fleet.cameras()]


def detail(fleet: Fleet, member: Member) -> CameraDetail:
    """One camera with all that is known of it."""
    counted = member.tally
    return CameraDetail(
        **camera(fleet, member),
        settings=dict(member.account.facts.get("camera", {})),
        errors=[PastError(at=instant(at) or "", error=error) for at, error in member.errors],
        metrics={} if counted is None else _flat(counted),
    )


def history(member: Member, wall: float) -> History:
    """Its last half an hour. `wall` is seconds since the epoch."""
    points = member.track.points()
    return History(
        every_s=EVERY_S,
        until=instant(wall) or "",
        rate_in=points["rate_in"],
        rate_out=points["rate_out"],
        age_p50_s=points["age_p50_s"],
        age_p99_s=points["age_p99_s"],
        round_trip_p50_s=points["round_trip_p50_s"],
        dropped_per_s=points["dropped_per_s"],
        dropped_by_reason_per_s=member.track.dropped(),
    )


def hub(fleet: Fleet, *, site: str, version: str, broker_up: bool, now: float, wall: float) -> Hub:
    """The hub; `now` is monotonic, `wall` seconds since the epoch."""
    facts = fleet.hub()
    itself = fleet.members.get(HUB)
    started = itself.account.started_at if itself is not None else None
    return Hub(
        site=facts.get("site", site),
        version=facts.get("version", version),
        started_at=None if started is None else instant(wall - now + started),
        redis=facts.get("redis"),
        broker_up=broker_up,
        service_up=service_up(fleet),
        config_reloads=facts.get("config_reloads", {}),
        reload_error=facts.get("reload_error"),
        processes=[_process(member) for member in fleet.processes()],
    )


def webhooks(fleet: Fleet) -> list[Webhook]:
    """All of them, as their dispatcher has reported last; one that has not run yet has counted nothing."""
    dispatcher = fleet.members.get(WEBHOOKS)
    if dispatcher is None:
        return []
    rows = dispatcher.last.row.get("webhooks", ()) if dispatcher.last is not None else ()
    known: dict[str, Webhook] = {row["id"]: row for row in rows}
    return [
        known.get(webhook["id"]) or _unheard_of(webhook["id"], webhook["url"])
        for webhook in dispatcher.account.facts.get("webhooks", ())
    ]


def _unheard_of(webhook_id: str, url: str) -> Webhook:
    return Webhook(
        id=webhook_id,
        url=url,
        state="active",
        pending=0,
        retrying=0,
        dead=0,
        delivered=0,
        failed=0,
        last_error=None,
        last_delivery_at=None,
        p50_s=None,
        p99_s=None,
    )


def service_up(fleet: Fleet) -> bool:
    """Whether pictures can go out: the local service serves, or where it is another's, some camera streams to it."""
    service = fleet.members.get(SERVICE)
    if service is not None:
        return service.ready
    return any(member.state == "streaming" for member in fleet.cameras())


def _of_gateway(fleet: Fleet, camera_id: str) -> dict[str, int]:
    """What the gateway itself has counted of a camera: the results that came by callback."""
    own = fleet.members.get(GATEWAY)
    counted = own.tally if own is not None else None
    if counted is None:
        return {}
    found: dict[str, int] = {}
    for (name, labels), value in counted.counters.items():
        if ("camera", camera_id) in labels:
            found[name] = found.get(name, 0) + int(value)
    return found


def _quantiles(pair: tuple[float, float] | None) -> Quantiles | None:
    return None if pair is None else Quantiles(p50=round(pair[0], 4), p99=round(pair[1], 4))


def _worker(member: Member) -> Worker:
    cpu = member.track.cpu()
    memory = None if member.tally is None else member.tally.gauge("worker_memory_bytes")
    return Worker(
        pid=member.account.pid,
        cpu=None if cpu is None or not member.alive else round(cpu, 4),
        memory_bytes=None if memory is None else int(memory),
    )


def _process(member: Member) -> Process:
    worker = _worker(member)
    return Process(
        name=member.name,
        phase=member.account.phase,
        pid=worker["pid"],
        cpu=worker["cpu"],
        memory_bytes=worker["memory_bytes"],
        restarts={reason: int(count) for reason, count in member.account.restarts.items()},
        error=member.error,
    )


def _flat(counted: Tally) -> dict[str, float]:
    """Counters and gauges with their labels in their names, as Prometheus writes them."""
    shown = {}
    for (name, labels), value in (*counted.counters.items(), *counted.gauges.items()):
        inside = ",".join(f'{label}="{text}"' for label, text in labels)
        shown[f"{name}{{{inside}}}" if inside else name] = value
    return shown
