"""A local service that is slower than its clients: fresh frames, notices of skipped ones, and refusals."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import websockets
from websockets.asyncio.client import connect

from nvision_hub.media import cv2_loader
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision import skipping
from nvision_hub.nvision.connection import ClientTimeouts
from nvision_hub.nvision.protocol import RequestOptions, decode, encode_request
from nvision_hub.runtime.connection_limits import ConnectionLimits
from nvision_hub.runtime.http_server import HttpServer, listener
from tests.support.patience import PATIENCE_S
from tests.support.recorder import KEY
from tests.support.street import as_jpeg, street
from tests.support.uplinks import feeding
from workers.local_service import image_queue, overload
from workers.local_service.settings import LocalServiceSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers.local_service.detection_types import Detection
    from workers.local_service.images import Pixels

cv2_loader.load()

from workers.local_service.handler import RequestHandler  # noqa: E402 - requires OpenCV
from workers.local_service.server import application  # noqa: E402

IMAGE = as_jpeg(street(width=320, height=180))


class GatedDetector:
    """Detector that finds nothing, and only while the gate is open."""

    def __init__(self) -> None:
        self.gate = Event()
        self.started = Event()
        self.images = 0

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - interface
        self.images += 1  # only one thread detects
        self.started.set()
        assert self.gate.wait(PATIENCE_S)
        return []


@asynccontextmanager
async def serving(detector: GatedDetector) -> AsyncIterator[tuple[str, Meter]]:
    """Serve with one thread. Yield the address after the scheme, and the service's meter."""
    meter = Meter()
    handler = RequestHandler(LocalServiceSettings(), {"object-detection": lambda: detector}, None, meter)
    listening = listener("127.0.0.1", 0)
    limits = ConnectionLimits(max_connections=64, max_per_address=64, max_queued_messages=None)
    server = HttpServer(application(handler), ws_max_size=2**20, limits=limits)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    await server.listening.wait()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}/api", meter
    finally:
        detector.gate.set()
        await handler.drain()
        await server.close()
        await running
        await handler.close()


@pytest.fixture(autouse=True)
async def _one_thread(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    async with asyncio.timeout(2 * PATIENCE_S):
        yield


def client(address: str, headers: dict[str, str] | None = None, *, key: str = KEY) -> connect:
    return connect(
        f"ws://{address}/v1/object-detection",
        subprotocols=[websockets.Subprotocol(key)],
        additional_headers=headers,
        proxy=None,
    )


def frame(number: int, source: str = "lobby") -> bytes:
    return encode_request(
        source_id=source, frame_id=f"{source} {number}", created_at="", image=IMAGE, options=RequestOptions()
    )


async def received(stream: Any, count: int) -> list[tuple[str, bool]]:
    """Return the frame id of each message, and whether the message is a notice."""
    messages = [decode(await stream.recv()) for _ in range(count)]
    return [(message.frame_id, skipping.is_notice(message)) for message in messages]


async def test_a_slow_service_processes_the_newest_frame_and_reports_the_skipped_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(overload, "FIRST_REPORT_S", 0.0)
    detector = GatedDetector()
    async with serving(detector) as (address, meter), client(address, skipping.HEADERS) as stream:
        await stream.send(frame(1))
        await asyncio.to_thread(detector.started.wait, PATIENCE_S)
        for number in range(2, 6):
            await stream.send(frame(number))
        await stream.send(frame(1, "yard"))
        assert await received(stream, 3) == [("lobby 2", True), ("lobby 3", True), ("lobby 4", True)]
        detector.gate.set()
        assert sorted(await received(stream, 3)) == [("lobby 1", False), ("lobby 5", False), ("yard 1", False)]
        assert meter.value(catalogue.SERVICE_REFUSED_TOTAL, reason="skipped") == 3
    (record,) = [record for record in caplog.records if getattr(record, "event", None) == "images_skipped"]
    assert "lower `fps`" in record.getMessage()


async def test_a_client_that_does_not_know_notices_gets_every_result() -> None:
    detector = GatedDetector()
    async with serving(detector) as (address, _), client(address) as stream:
        for number in range(5):
            await stream.send(frame(number))
        await asyncio.to_thread(detector.started.wait, PATIENCE_S)
        detector.gate.set()
        assert await received(stream, 5) == [(f"lobby {number}", False) for number in range(5)]


async def test_a_full_queue_refuses_images_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_IMAGES", 1)
    detector = GatedDetector()
    async with serving(detector) as (address, meter), client(address) as first, client(address) as second:
        await first.send(frame(1))
        await asyncio.to_thread(detector.started.wait, PATIENCE_S)
        await first.send(frame(2))
        while meter.total(catalogue.SERVICE_REQUESTS_TOTAL) < 2:  # noqa: ASYNC110 - a counter
            await asyncio.sleep(0.01)
        async with client(address, skipping.HEADERS) as camera:
            await camera.send(frame(1, "camera"))
            assert await received(camera, 1) == [("camera 1", True)]
        await second.send(frame(1, "other"))
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await second.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        async with httpx2.AsyncClient(trust_env=False) as http:
            response = await http.post(
                f"http://{address}/v1/object-detection",
                json={"raw_data": "/9j/"},
                headers={"Authorization": f"ApiKey {KEY}"},
            )
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert response.json() == {"message": "Too many images are waiting."}
        assert meter.value(catalogue.SERVICE_REFUSED_TOTAL, reason="overload") == 2
        detector.gate.set()
        assert await received(first, 2) == [("lobby 1", False), ("lobby 2", False)]


async def test_a_client_that_fills_the_queue_loses_its_images_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_IMAGES", 2)
    detector = GatedDetector()
    async with serving(detector) as (address, meter), client(address) as greedy, client(address) as camera:
        await greedy.send(frame(1))
        await asyncio.to_thread(detector.started.wait, PATIENCE_S)
        for number in (2, 3):
            await greedy.send(frame(number))
        while meter.total(catalogue.SERVICE_REQUESTS_TOTAL) < 3:  # noqa: ASYNC110 - a counter
            await asyncio.sleep(0.01)
        await camera.send(frame(1, "camera"))
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await greedy.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        detector.gate.set()
        assert await received(camera, 1) == [("camera 1", False)]
        await camera.send(frame(2, "camera"))
        assert await received(camera, 1) == [("camera 2", False)]
        assert detector.images == 3, "no waiting image of the closed stream may be processed"


async def test_the_connections_of_a_client_share_its_part_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_IMAGES", 2)
    detector = GatedDetector()
    async with (
        serving(detector) as (address, meter),
        client(address) as first,
        client(address) as second,
        client(address, key="another-key") as camera,
    ):
        await first.send(frame(1))
        await asyncio.to_thread(detector.started.wait, PATIENCE_S)
        for requests, (stream, number) in enumerate([(first, 2), (second, 3)], 2):
            await stream.send(frame(number))
            while meter.total(catalogue.SERVICE_REQUESTS_TOTAL) < requests:  # noqa: ASYNC110 - a counter
                await asyncio.sleep(0.01)
        await camera.send(frame(1, "camera"))
        with pytest.raises(websockets.ConnectionClosed):
            await first.recv()
        detector.gate.set()
        assert await received(second, 1) == [("lobby 3", False)]
        assert await received(camera, 1) == [("camera 1", False)]


async def test_the_hub_counts_skipped_frames_and_continues_with_fresh_ones() -> None:
    detector = GatedDetector()
    async with (
        serving(detector) as (address, meter),
        feeding(f"ws://{address}", jpeg=IMAGE, timeouts=ClientTimeouts()) as feed,
    ):
        await feed.until(lambda: feed.counted("frames_unanswered_total", reason="skipped") >= 5)
        assert feed.counted("results_received_total") == 0
        detector.gate.set()
        await feed.answered(3)
        assert feed.counted("results_lost_total") == 0
        assert feed.uplink.error is None
        assert meter.value(catalogue.SERVICE_REFUSED_TOTAL, reason="skipped") >= 5
