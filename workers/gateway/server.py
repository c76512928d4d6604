"""Server of the gateway: creates all components, and serves them on one port and on the control socket."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from nvision_hub.access.token_store import TokenStore
from nvision_hub.broker.client import connect
from nvision_hub.broker.publisher import Publisher
from nvision_hub.cluster.rejected_entries import RejectedEntries
from nvision_hub.errors import UnavailableError
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.connection_limits import ConnectionLimits
from nvision_hub.runtime.http_server import CLOSE_TIMEOUT_S, HttpServer, base_url, listener
from nvision_hub.runtime.process_stats import ProcessStats
from nvision_hub.runtime.status import Deadline, GatewayInfo, Status
from nvision_hub.runtime.unix_socket import unix_listener
from nvision_hub.runtime.worker import DrainStep, run_worker
from workers.gateway.api import page
from workers.gateway.api.application import application, health_application
from workers.gateway.api.auth import AccessPolicy
from workers.gateway.api.callback import CallbackReceiver, callback_routes
from workers.gateway.api.camera_routes import camera_control_routes, camera_routes
from workers.gateway.api.control import FleetControl
from workers.gateway.api.hub_routes import HEALTH, BrokerHealth, health_routes, hub_routes
from workers.gateway.api.schemas import HubSummary, camera_summaries, hub_summary, webhook_summaries
from workers.gateway.api.usage_routes import usage_routes
from workers.gateway.api.webhook_routes import webhook_routes
from workers.gateway.auth.audit_trail import AuditTrail
from workers.gateway.auth.identity import TokenTable, TrustedProxy
from workers.gateway.live.live_view import FleetView, LiveView
from workers.gateway.live.preview_requests import PreviewRequests
from workers.gateway.live.pubsub import PubSubClient
from workers.gateway.live.snapshots import SnapshotService
from workers.gateway.state.abandoned_tracks import AbandonedTracks
from workers.gateway.state.events import HubEventDetector
from workers.gateway.state.fleet import HUB, FleetState
from workers.gateway.state.history import INTERVAL_S
from workers.gateway.state.remote_hubs import RemoteHubs
from workers.gateway.tls import renew_certificate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
    from workers.gateway.settings import GatewaySettings

log = logging.getLogger("nvision_hub.gateway")

LOOP_TIMEOUT_S: Final = 15.0
MAX_MESSAGE_BYTES: Final = 128 * 1024  # large enough for a viewer's list of the cameras in view
DRAIN_TIMEOUT_S: Final = 1.0  # time to publish the remaining events when the gateway stops
# Without a timeout, the connection of a viewer that stops reading would stay open indefinitely. With a large buffer, a
# slow viewer would receive data that is minutes old.
USER_TIMEOUT_MS: Final = 20_000
SEND_BUFFER_BYTES: Final = 256 * 1024
FIRST_STATE_TIMEOUT_S: Final = 8.0  # less than the time that a command waits for a response
CONTROL_LIMITS: Final = ConnectionLimits(max_connections=64, max_per_address=48)
HEALTH_LIMITS: Final = ConnectionLimits(
    max_connections=64, max_per_address=32, header_timeout_s=5.0, request_timeout_s=10.0, max_queued_messages=1
)


async def serve(settings: GatewaySettings, pipe: SupervisorPipe) -> None:
    listening = _listen(settings.host, settings.port, "listen") if settings.host else None
    url = None if listening is None else base_url("http" if settings.tls is None else "https", listening)
    control_listening, site = _listen_for_control(settings.control), settings.site
    meter, fleet, client = Meter(), FleetState(), connect(settings.stream.url)
    stats = ProcessStats(meter)
    control = FleetControl(fleet, pipe.request)
    publisher = Publisher(settings.stream, meter, settings.spool, label_camera=True)
    pubsub, broker, previews = PubSubClient(settings.stream, meter), BrokerHealth(client), PreviewRequests(control)
    snapshots = SnapshotService(control, pubsub, previews, client)

    def summary() -> HubSummary:
        return hub_summary(fleet, site=site, broker_up=broker.up)

    def fleet_view() -> FleetView:
        cameras = {camera["id"]: camera for camera in camera_summaries(fleet)}
        return FleetView(hub=summary(), cameras=cameras, webhooks=webhook_summaries(fleet))

    files, audit = page.routes(), AuditTrail(settings.state_dir, client, settings.stream.prefix)
    policy = AccessPolicy(
        listen_host=settings.host,
        loopback=settings.loopback,
        tokens=TokenTable(settings.tokens, None if settings.state_dir is None else TokenStore(settings.state_dir)),
        proxy=TrustedProxy(settings=settings.proxy),
        hosts=settings.hosts,
        open_paths=frozenset({*(file.path for file in files), *HEALTH}),
        audit=audit.add,
    )
    receiver = CallbackReceiver(settings, policy, control, publisher, meter)
    live = LiveView(policy, pubsub, previews, fleet_view)
    routers = (
        health := health_routes(fleet, broker),
        hub_routes(fleet, broker, settings.stream, site, summary),
        camera_routes(control, snapshots),
        camera_control_routes(control),
        webhook_routes(fleet, client, prefix=settings.stream.prefix, site=site),
        usage_routes(settings.usage, fleet),
        callback_routes(receiver),
    )
    app, servers, health_url = application(routers, files, live, policy), list[HttpServer](), None
    tasks = {
        "publisher": publisher.run(),
        "pubsub": pubsub.run(),
        "previews": previews.run(),
        "broker": broker.run(),
        "callback": receiver.run(),
        "live": live.run(),
        "audit": audit.run(),
        "abandoned tracks": AbandonedTracks(settings, fleet, client).run(),
        "history": _record_history(fleet, HubEventDetector(site), publisher, policy),
    }
    if listening is not None:
        tls = None if settings.tls is None else (settings.tls.cert, settings.tls.key)
        http = HttpServer(app, ws_max_size=MAX_MESSAGE_BYTES, limits=ConnectionLimits(), tls=tls)
        servers.append(http)
        tasks["server"] = http.serve(sockets=[listening])
        if settings.tls is not None:
            tasks["certificate"] = renew_certificate(settings.tls, http.use_context)
    if settings.health_host:
        health_listening = _listen(settings.health_host, settings.health_port, "health_listen")
        health_url = base_url("http", health_listening)
        servers.append(HttpServer(health_application(health), ws_max_size=0, limits=HEALTH_LIMITS))
        tasks["health"] = servers[-1].serve(sockets=[health_listening])
    started = partial(_started, tuple(servers), url, health_url)
    if control_listening is not None:
        servers.append(HttpServer(app, ws_max_size=MAX_MESSAGE_BYTES, limits=CONTROL_LIMITS))
        tasks["control"] = _serve_control(servers[-1], control_listening, control)
    if settings.fleet is not None and url is not None:
        remote = RemoteHubs(settings.fleet, control, client, pubsub, RejectedEntries(meter))
        control.send = remote.request
        tasks["remote hubs"] = remote.run(url)

    def status() -> Status:
        meter.set_gauge(catalogue.RESULTS_WAITING, publisher.results_waiting)
        stats.update()
        return Status(
            state="serving",
            ready=True,
            error=publisher.error,
            deadlines={"event loop": Deadline(at=time.monotonic(), timeout_s=LOOP_TIMEOUT_S)},
            metrics=meter.snapshot(),
            info=GatewayInfo(url=url, viewers=len(live.viewers), health_url=health_url),
        )

    drain = [
        DrainStep(run=lambda: asyncio.gather(*map(HttpServer.close, servers)), timeout_s=CLOSE_TIMEOUT_S),
        DrainStep(run=lambda: _drain_audit(audit, policy), timeout_s=DRAIN_TIMEOUT_S),
        DrainStep(run=lambda: publisher.drain(DRAIN_TIMEOUT_S), timeout_s=2 * DRAIN_TIMEOUT_S),
    ]
    await run_worker(pipe, status, tasks=tasks, on_message=control.on_message, started=started, drain=drain)


async def _started(servers: Sequence[HttpServer], url: str | None, health_url: str | None) -> None:
    for server in servers:
        await server.listening.wait()
    if url is not None:
        log.info("gateway listening at %s", url, extra={"event": "gateway_listening"})
    if health_url is not None:
        log.info("health checks listening at %s", health_url, extra={"event": "health_listening"})


async def _serve_control(server: HttpServer, listening: socket.socket, control: FleetControl) -> None:
    """Serve the control socket after the state of all processes is known. Until then, clients wait.

    The worker's first status report must not wait for this state. The worker reads the supervisor's messages only after
    that report, so it would wait for itself.
    """
    processes = control.fleet.processes
    await control.wait_until(lambda: HUB in processes and processes[HUB].status.ready, FIRST_STATE_TIMEOUT_S)
    await server.serve(sockets=[listening])


async def _drain_audit(audit: AuditTrail, policy: AccessPolicy) -> None:
    policy.report_suppressed(at_end=True)
    await audit.drain()


def _listen(host: str, port: int, key: str) -> socket.socket:
    try:
        listening = listener(host, port)
    except OSError as error:
        raise UnavailableError(
            f"the gateway cannot listen on {host} port {port} ({error.strerror or error}); stop the program that uses "
            f"the port, or choose another gateway.{key}"
        ) from error
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return listening


def _listen_for_control(path: Path | None) -> socket.socket | None:
    """Return the control socket; None if there is none. Without it, the gateway still serves its port."""
    if path is None:
        return None
    try:
        return unix_listener(path)
    except OSError as error:
        log.warning("control socket %s not available: %s; commands on this machine need --url and a token",
                    path, error.strerror or error, extra={"event": "control_socket_unavailable"})  # fmt: skip
        return None


async def _record_history(
    fleet: FleetState, detector: HubEventDetector, publisher: Publisher, policy: AccessPolicy
) -> None:
    due = time.monotonic()
    while True:
        fleet.record(time.monotonic())
        for event in detector.detect(fleet, time.monotonic()):
            publisher.announce(event["camera"] or "", event)
        policy.report_suppressed()
        due = max(due + INTERVAL_S, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
