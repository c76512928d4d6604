"""HTTP server of the local service, with WebSocket and REST routes for object and face detection on one port."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from nvision_hub import __version__
from nvision_hub.config.value_types import SERVICES
from nvision_hub.errors import UnavailableError
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter, RateWindow
from nvision_hub.runtime.connection_limits import ConnectionLimits
from nvision_hub.runtime.http_server import CLOSE_TIMEOUT_S, HttpServer, base_url, listener
from nvision_hub.runtime.process_stats import ProcessStats
from nvision_hub.runtime.status import Deadline, ServiceInfo, Status
from nvision_hub.runtime.worker import DrainStep, run_worker
from workers.local_service.callbacks import CALLBACK_DRAIN_TIMEOUT_S, Callbacks
from workers.local_service.detectors import choose_detectors
from workers.local_service.handler import MAX_MESSAGE_BYTES, STREAM_DRAIN_TIMEOUT_S, RequestHandler
from workers.local_service.packaged_models import FACES, OBJECTS
from workers.local_service.rest import predict
from workers.local_service.websocket import stream

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine

    from starlette.requests import Request

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
    from workers.local_service.settings import LocalServiceSettings

LOOP_TIMEOUT_S: Final = 15.0
DRAIN_TIMEOUT_S: Final = 3 * STREAM_DRAIN_TIMEOUT_S  # one stream may need twice `STREAM_DRAIN_TIMEOUT_S`
ANSWER_TIMEOUT_S: Final = 120.0  # long enough for a large model on a slow machine that processes other images first
# All cameras of a hub connect from one address, and may send many images before the service reads them.
LIMITS: Final = ConnectionLimits(
    max_connections=768, max_per_address=768, request_timeout_s=2 * ANSWER_TIMEOUT_S, max_queued_messages=None
)

_log = logging.getLogger("nvision_hub.service")


async def serve(settings: LocalServiceSettings, pipe: SupervisorPipe) -> None:
    detectors = choose_detectors(settings)
    objects, faces = detectors["object-detection"], detectors["face-detection"]
    listening = _listen(settings.host, settings.port)
    url = f"{base_url('ws', listening)}/api"
    meter = Meter()
    callbacks = None if settings.callback_url is None else Callbacks(settings.callback_url, meter)
    handler = RequestHandler(
        settings, {service: choice.create for service, choice in detectors.items()}, callbacks, meter
    )
    server = HttpServer(application(handler), ws_max_size=MAX_MESSAGE_BYTES, limits=LIMITS)
    stats = ProcessStats(meter)
    rate = RateWindow()

    async def started() -> None:
        await server.listening.wait()
        _log.info(
            "local Nvision service listens on %s; objects: %s; faces: %s",
            url,
            objects.name,
            faces.name,
            extra={"event": "service_started"},
        )
        for service, choice in detectors.items():
            if choice.is_fallback:
                _log.warning(
                    "%s: no model, because nvision-hub was built without network access; the service reports %s. "
                    "Install nvision-hub again, or choose a model of your own",
                    service,
                    (OBJECTS if service == "object-detection" else FACES).fallback,
                    extra={"event": "model_missing"},
                )

    def snapshot() -> Status:
        now = time.monotonic()
        requests = meter.total(catalogue.SERVICE_REQUESTS_TOTAL)
        stats.update()
        meter.set_gauge(catalogue.SERVICE_CONNECTIONS, len(handler.sessions))
        meter.set_gauge(catalogue.SERVICE_SOURCES, len(handler.sources))
        return Status(
            state="serving",
            ready=True,
            deadlines={
                "loop": Deadline(at=now, timeout_s=LOOP_TIMEOUT_S),
                "answers": Deadline(at=handler.oldest_at(now), timeout_s=ANSWER_TIMEOUT_S),
            },
            metrics=meter.snapshot(),
            info=ServiceInfo(
                url=url,
                requests=requests,
                rate=round(rate.update(now, requests), 2),
                detections=meter.total(catalogue.SERVICE_DETECTIONS_TOTAL),
                refused=meter.total(catalogue.SERVICE_REFUSED_TOTAL),
                connections=len(handler.sessions),
                sources=len(handler.sources),
                object_model=objects.name,
                face_model=faces.name,
            ),
        )

    tasks: dict[str, Coroutine[Any, Any, object]] = {"server": server.serve(sockets=[listening])}
    drain = [
        DrainStep(run=handler.drain, timeout_s=DRAIN_TIMEOUT_S),
        DrainStep(run=server.close, timeout_s=CLOSE_TIMEOUT_S),
    ]
    if callbacks is not None:
        tasks["callbacks"] = callbacks.run()
        drain.append(DrainStep(run=callbacks.drain, timeout_s=2 * CALLBACK_DRAIN_TIMEOUT_S, after_failure=True))
    try:
        await run_worker(pipe, snapshot, tasks=tasks, started=started, drain=drain)
    finally:
        await handler.close()


def application(handler: RequestHandler) -> Starlette:
    """Return the ASGI application: both services at Nvision's paths, and a health check."""

    async def alive(_: Request) -> JSONResponse:
        return JSONResponse({"service": "nvision-hub", "version": __version__, "service_id": handler.service_id})

    routes: list[Route | WebSocketRoute] = [Route("/", alive), Route("/healthz", alive)]
    for service in SERVICES:
        routes.append(WebSocketRoute(f"/api/v1/{service}", partial(stream, handler, service)))
        routes.append(Route(f"/api/v1/{service}", partial(predict, handler, service), methods=["POST"]))
    return Starlette(routes=routes)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listener(host, port)
    except OSError as error:
        raise UnavailableError(
            f"The local service cannot listen on {host} port {port} ({error.strerror or error}); stop the program "
            "that uses the port, or choose another port."
        ) from error
