"""The running service: detectors, doors and the HTTP server put together, on one port, until asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from nvision_hub import __version__
from nvision_hub.errors import UnavailableError
from nvision_hub.link import status_basis
from nvision_hub.serving import base_url, listener, server
from nvision_hub.status import Meter, Promise, Rate, Status
from nvision_hub.usage import Usage
from nvision_hub.wire import SERVICES
from workers.service.admission import Admission
from workers.service.analysis import Analysis
from workers.service.callbacks import Callbacks
from workers.service.desk import MAX_MESSAGE_BYTES, Desk
from workers.service.faces import SkinFaces, YunetFaces
from workers.service.moving import MovingObjects
from workers.service.rest import predict
from workers.service.stream import stream
from workers.service.yolo import YoloModel

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from nvision_hub.link import Link
    from nvision_hub.wire import Service
    from workers.service.detections import Detector
    from workers.service.service import ServiceSettings

LOOP_WITHIN_S: Final = 15.0
ANSWER_WITHIN_S: Final = 120.0  # a large model on a slow machine, with other sources' pictures before it

_log = logging.getLogger("nvision_hub.service")


async def serve(settings: ServiceSettings, link: Link) -> None:
    """Listen, answer and report until the link says to end. Raises `UnavailableError`."""
    detectors = detectors_of(settings)
    listening = _listen(settings.host, settings.port)
    service_id = str(uuid.uuid4())
    meter = Meter()
    analysis = Analysis(detectors, service_id)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(analysis.close)
        callbacks = None
        if settings.callback_url is not None:
            callbacks = await stack.enter_async_context(Callbacks(settings.callback_url, meter))
        desk = Desk(
            service_id=service_id,
            admission=Admission(settings.streaming_keys, settings.rate_limit_per_s),
            analysis=analysis,
            callbacks=callbacks,
            latency_s=settings.latency_s,
            meter=meter,
        )
        serving = server(application(desk), ws_max_size=MAX_MESSAGE_BYTES)
        report = _Report(desk, f"{base_url('ws', listening)}/api")
        async with asyncio.TaskGroup() as group:
            group.create_task(serving.serve(sockets=[listening]))
            await serving.listening.wait()
            _log.info("The local Nvision service answers at %s.", report.url)
            await link.run(report)
            await desk.drain()
            serving.should_exit = True
        await desk.close()


def detectors_of(settings: ServiceSettings) -> Mapping[Service, Callable[[], Detector]]:
    """How each service comes by the detector of a new source: models are shared, backgrounds are each source's own."""
    objects: Callable[[], Detector] = MovingObjects
    if settings.model is not None:
        model = YoloModel(settings.model)
        objects = lambda: model  # noqa: E731 - says what it is in the line where it is chosen
    faces = SkinFaces() if settings.face_model is None else YunetFaces(settings.face_model)
    return {"object-detection": objects, "face-detection": lambda: faces}


def application(desk: Desk) -> Starlette:
    """Both doors of both services under the addresses that Nvision has, and a sign of life."""

    async def alive(_: Request) -> JSONResponse:
        return JSONResponse({"service": "nvision-hub", "version": __version__, "service_id": desk.service_id})

    routes: list[Route | WebSocketRoute] = [Route("/", alive), Route("/healthz", alive)]
    for service in SERVICES:
        routes.append(WebSocketRoute(f"/api/v1/{service}", partial(stream, desk, service)))
        routes.append(Route(f"/api/v1/{service}", partial(predict, desk, service), methods=["POST"]))
    return Starlette(routes=routes)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listener(host, port)
    except OSError as error:
        raise UnavailableError(
            f"The local service cannot listen on {host} port {port} ({error.strerror or error}); stop what uses it "
            "or choose another port."
        ) from error


class _Report:
    """The service's status, as its supervisor is told once it listens."""

    def __init__(self, desk: Desk, url: str) -> None:
        self.url = url
        self._desk = desk
        self._usage = Usage(desk.meter)
        self._rate = Rate()

    def __call__(self) -> Status:
        now = time.monotonic()
        desk, meter = self._desk, self._desk.meter
        requests = meter.total("service_requests_total")
        self._usage.note()
        meter.gauge("service_connections", desk.connections)
        meter.gauge("service_sources", desk.sources)
        return Status(
            **status_basis("serving"),
            ready=True,
            promises={
                "loop": Promise(at=now, within_s=LOOP_WITHIN_S),
                "answers": Promise(at=now if desk.oldest_at is None else desk.oldest_at, within_s=ANSWER_WITHIN_S),
            },
            metrics=meter.snapshot(),
            row={
                "url": self.url,
                "requests": requests,
                "rate": round(self._rate.update(now, requests), 2),
                "detections": meter.total("service_detections_total"),
                "refused": meter.total("service_refused_total"),
                "connections": desk.connections,
                "sources": desk.sources,
            },
        )
