"""The local service with real WebSocket and HTTP clients: results, errors and shutdown."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import cv2
import httpx2
import numpy as np
import pytest
import websockets
from websockets.asyncio.client import connect

from nvision_hub.nvision.nvision_pb2 import NvisionRequest
from nvision_hub.nvision.protocol import RequestOptions, decode, encode_request
from nvision_hub.runtime.status import ServiceInfo
from tests.support import footage
from tests.support.local_service import KEY, LocalService
from tests.support.patience import PATIENCE_S
from tests.support.statuses import info_as
from tests.support.street import Car, Person, as_jpeg, street
from workers.demo.scene import SCENES
from workers.local_service import packaged_models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

DEADLINE_S: Final = PATIENCE_S
EMPTY_STREET: Final = as_jpeg(street())
FACE: Final = footage.ASTRONAUT.read_bytes()
WALKER: Final = Person(x=300, feet=430, tall=180)
BUS: Final = Car(x=600, wheels=500, long=240)


@pytest.fixture(autouse=True)
async def _deadline() -> AsyncIterator[None]:
    async with asyncio.timeout(2 * PATIENCE_S):
        yield


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    """Start one service for all tests that do not change it. The service treats each key as a separate customer."""
    shared = LocalService(log=tmp_path_factory.mktemp("shared") / "log", settings={"port": 0, "model": "moving"})
    shared.start()
    yield shared
    assert shared.stop() == 0
    assert "Traceback" not in shared.log_text()


def key_of(service: LocalService) -> str:
    keys = service.settings.get("streaming_keys")
    return keys[0] if keys else secrets.token_hex(50)


def client(service: LocalService, which: str = "object-detection", key: str | None = None) -> connect:
    key = key or key_of(service)
    return connect(
        service.stream_url(which),
        subprotocols=[websockets.Subprotocol(key)],
        compression=None,
        max_size=None,
        proxy=None,
    )


def request(image: bytes, *, source: str = "lobby", frame: str = "1", **options: Any) -> bytes:
    return encode_request(
        source_id=source,
        frame_id=frame,
        created_at="2026-11-22T14:00:00.120Z",
        image=image,
        options=RequestOptions(**options),
    )


async def answered(stream: Any, data: bytes) -> NvisionRequest:
    await stream.send(data)
    async with asyncio.timeout(DEADLINE_S):
        return decode(await stream.recv())


async def closing(stream: Any) -> websockets.frames.Close:
    """Read the remaining results. Return how the service closed the stream."""
    with pytest.raises(websockets.ConnectionClosed) as closed:
        async with asyncio.timeout(DEADLINE_S):
            await drained(stream)
    assert closed.value.rcvd is not None
    return closed.value.rcvd


async def drained(stream: Any) -> None:
    while True:
        await stream.recv()


async def learned(stream: Any, source: str = "lobby") -> None:
    """Send the empty street until the service has learned the background."""
    for seed in range(4):
        await answered(stream, request(as_jpeg(street(seed=seed)), source=source))


def overlap(found: Any, box: tuple[int, int, int, int]) -> float:
    """Return the intersection over union of a detection and a box."""
    left, top = max(found.left, box[0]), max(found.top, box[1])
    right, bottom = min(found.right, box[2]), min(found.bottom, box[3])
    common = max(right - left, 0) * max(bottom - top, 0)
    union = (found.right - found.left) * (found.bottom - found.top) + (box[2] - box[0]) * (box[3] - box[1]) - common
    return float(common / union)


async def test_moving_objects_are_detected_at_their_position(service: LocalService) -> None:
    async with client(service, key=KEY) as stream:
        assert stream.subprotocol == KEY
        await learned(stream)
        result = await answered(stream, request(as_jpeg(street(WALKER, BUS, seed=9)), frame="frame-9"))
    assert (result.source_id, result.frame_id) == ("lobby", "frame-9")
    assert result.service_id
    found = sorted(result.detected_objects, key=lambda detection: detection.bounding_box.left)
    assert [(detection.name, detection.parent) for detection in found] == [("moving", "object")] * 2
    assert overlap(found[0].bounding_box, WALKER.box) > 0.7
    assert overlap(found[1].bounding_box, BUS.box) > 0.7
    assert all(0.25 < detection.confidence <= 0.5 for detection in found)
    assert not result.raw_data
    assert not found[0].cropped_image


async def test_the_packaged_model_names_people_and_cars(local_service: Callable[..., LocalService]) -> None:
    footage.packaged()
    service = local_service(model=None)
    image = SCENES["street"].backdrop()
    SCENES["street"].draw(image, 100)
    async with client(service) as stream:
        result = await answered(stream, request(as_jpeg(image), confidence_threshold=0.5))
    assert {(found.name, found.parent) for found in result.detected_objects} == {
        ("person", "human"),
        ("car", "vehicle"),
    }
    info = info_as(service.status(lambda status: status.ready), ServiceInfo)
    assert info.object_model == packaged_models.OBJECTS.name
    assert packaged_models.OBJECTS.name in service.log_text()


async def test_images_are_returned_on_request(service: LocalService) -> None:
    shown = street(WALKER, BUS, seed=9)
    async with client(service) as stream:
        await learned(stream)
        result = await answered(
            stream, request(as_jpeg(shown), output_cropped_image=True, output_visualized_image=True)
        )
    drawn = cv2.imdecode(np.frombuffer(result.raw_data, np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    assert drawn.shape == shown.shape
    for detection in result.detected_objects:
        box = detection.bounding_box
        crop = cv2.imdecode(np.frombuffer(detection.cropped_image, np.uint8), cv2.IMREAD_COLOR)
        assert crop is not None
        assert crop.shape == (box.bottom - box.top, box.right - box.left, 3)
        assert cv2.absdiff(crop, shown[box.top : box.bottom, box.left : box.right]).mean() < 12
        # The edge of the drawn box is green.
        edge = drawn[box.top : box.bottom, box.left].astype(int)
        assert np.median(edge[:, 1] - edge[:, 2]) > 60


async def test_the_threshold_removes_less_confident_detections(service: LocalService) -> None:
    pale = Person(x=300, feet=430, tall=60, coat=(110, 110, 110))
    async with client(service) as stream:
        for source in ("low", "high"):
            await learned(stream, source)
        image = as_jpeg(street(pale, BUS, seed=9))
        everything = await answered(stream, request(image, source="low", confidence_threshold=0))
        middle = max(detection.confidence for detection in everything.detected_objects)
        sure = await answered(stream, request(image, source="high", confidence_threshold=middle - 0.001))
    assert len(everything.detected_objects) == 2
    assert len(sure.detected_objects) == 1
    assert overlap(sure.detected_objects[0].bounding_box, BUS.box) > 0.7


async def test_faces_are_detected_in_a_single_image(service: LocalService) -> None:
    footage.packaged(packaged_models.FACES)
    async with client(service, "face-detection") as stream:
        result = await answered(stream, request(FACE))
    assert not result.detected_objects
    (face,) = result.detected_faces
    assert (face.name, face.parent) == ("face", "human")
    left, top, right, bottom = map(int, footage.ASTRONAUT_FACE)
    assert overlap(face.bounding_box, (left, top, right, bottom)) > 0.7


async def test_only_the_requested_classes_are_returned(service: LocalService) -> None:
    async with client(service) as stream:
        for classes, count in ((["vehicle"], 0), (["person", "object"], 2), (["Moving"], 2)):
            source = classes[0]
            await learned(stream, source)
            message = NvisionRequest(
                source_id=source, raw_data=as_jpeg(street(WALKER, BUS, seed=9)), target_classes=classes
            )
            result = await answered(stream, message.SerializeToString())
            assert len(result.detected_objects) == count, classes


async def test_a_base64_image_is_accepted(service: LocalService) -> None:
    async with client(service) as stream:
        await learned(stream)
        image = base64.b64encode(as_jpeg(street(WALKER, seed=9)))
        message = NvisionRequest(source_id="lobby", encoding=NvisionRequest.BASE64, raw_data=image)
        result = await answered(stream, message.SerializeToString())
    assert len(result.detected_objects) == 1


async def test_sources_do_not_see_each_others_background(service: LocalService) -> None:
    async with client(service) as stream:
        await learned(stream, "lobby")
        await learned(stream, "yard")
        image = as_jpeg(street(WALKER, seed=9))
        assert len((await answered(stream, request(image, source="lobby"))).detected_objects) == 1
        assert len((await answered(stream, request(image, source="new"))).detected_objects) == 0
        assert len((await answered(stream, request(image, source="yard"))).detected_objects) == 1


async def test_results_of_a_source_keep_their_order_and_none_is_lost(
    service: LocalService,
) -> None:
    async with client(service) as stream:
        for number in range(40):
            await stream.send(request(EMPTY_STREET, frame=str(number), source=f"camera-{number % 2}"))
        async with asyncio.timeout(DEADLINE_S):
            frames = [int(decode(await stream.recv()).frame_id) for _ in range(40)]
    assert sorted(frames) == list(range(40))
    for source in (0, 1):
        assert [frame for frame in frames if frame % 2 == source] == list(range(source, 40, 2))


@pytest.mark.parametrize("key", ["wrong", None])
async def test_a_wrong_or_missing_key_is_rejected_at_the_handshake(
    local_service: Callable[..., LocalService], key: str | None
) -> None:
    service = local_service()
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with connect(
            service.stream_url(), subprotocols=[websockets.Subprotocol(key)] if key else None, proxy=None
        ):
            pass
    assert refused.value.response.status_code == 401
    assert service.counted("service_refused_total", reason="key") == 1
    assert service.stop() == 0
    assert "handshake" not in service.log_text()


async def test_rest_rejects_a_wrong_key(local_service: Callable[..., LocalService]) -> None:
    assert (await post(local_service(), rest(EMPTY_STREET), key="wrong")).status_code == 401


async def test_without_configured_keys_any_key_is_accepted(local_service: Callable[..., LocalService]) -> None:
    async with client(local_service(streaming_keys=[]), key="any-key") as stream:
        assert stream.subprotocol == "any-key"


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("a text", 1003, "text"),
        (b"\xff\xff\xff garbage", 1007, "message"),
        (b"\0" * (33 * 1024 * 1024), 1009, "size"),
        (NvisionRequest(encoding=NvisionRequest.BASE64, raw_data=b"\xff").SerializeToString(), 1008, "option"),
    ],
    ids=["text", "garbage", "oversize", "not base64"],
)
async def test_an_invalid_message_closes_only_its_stream(
    service: LocalService, message: bytes | str, code: int, reason: str
) -> None:
    async with client(service) as bystander:
        async with client(service) as stream:
            with contextlib.suppress(websockets.ConnectionClosed):
                await stream.send(message)
            assert (await closing(stream)).code == code
        service.counted("service_refused_total", reason=reason)
        assert (await answered(bystander, request(EMPTY_STREET))).frame_id == "1"


async def test_a_configuration_out_of_range_closes_the_stream_with_the_reason(
    service: LocalService,
) -> None:
    async with client(service) as stream:
        message = NvisionRequest(raw_data=EMPTY_STREET)
        message.configurations.add(parameter="ConfidenceThreshold", value="2")
        await stream.send(message.SerializeToString())
        close = await closing(stream)
    assert close.code == 1008
    assert "from 0 to 1" in close.reason


def _claims_to_be(width: int, height: int) -> bytes:
    """Return a small image whose header declares this size."""
    image = bytearray(EMPTY_STREET)
    at = image.index(b"\xff\xc0") + 5
    image[at : at + 4] = height.to_bytes(2) + width.to_bytes(2)
    return bytes(image)


@pytest.mark.parametrize(
    "image",
    [b"", b"no image", EMPTY_STREET[: len(EMPTY_STREET) // 2], EMPTY_STREET[:20], _claims_to_be(60_000, 60_000)],
    ids=["none", "text", "half", "header", "bomb"],
)
async def test_a_broken_image_gets_an_empty_result_and_the_stream_continues(
    service: LocalService, image: bytes
) -> None:
    async with client(service) as stream:
        result = await answered(stream, request(image, frame="broken"))
        assert (result.frame_id, len(result.detected_objects)) == ("broken", 0)
        assert (await answered(stream, request(EMPTY_STREET, frame="whole"))).frame_id == "whole"
    service.counted("service_refused_total", reason="picture")


async def test_a_stream_above_the_rate_is_closed_and_the_next_one_must_wait(
    local_service: Callable[..., LocalService],
) -> None:
    service = local_service(rate_limit_per_s=0.002)  # the next request is allowed after more than eight minutes
    async with client(service) as stream:
        await answered(stream, request(EMPTY_STREET))
        await stream.send(request(EMPTY_STREET))
        assert (await closing(stream)).code == 1013
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with client(service):
            pass
    assert refused.value.response.status_code == 429
    assert int(refused.value.response.headers["retry-after"]) >= 1


async def test_latency_delays_each_result_independently(local_service: Callable[..., LocalService]) -> None:
    async with client(local_service(latency_s=1.0)) as stream:
        began = time.monotonic()
        for number in range(100):
            await stream.send(request(EMPTY_STREET, frame=str(number)))
        async with asyncio.timeout(DEADLINE_S):
            frames = [int(decode(await stream.recv()).frame_id) for _ in range(100)]
        took_s = time.monotonic() - began
    # The delays run in parallel, so results may arrive in another order. Their ids identify the frames.
    assert sorted(frames) == list(range(100))
    assert 1.0 <= took_s < 100.0  # sequential delays would take a hundred seconds


async def test_a_drain_sends_pending_results_and_closes_in_order(
    local_service: Callable[..., LocalService],
) -> None:
    service = local_service(latency_s=0.4)
    async with client(service) as stream:
        for number in range(3):
            await stream.send(request(EMPTY_STREET, frame=str(number)))
        service.counted("service_requests_total", at_least=3)
        service.drain()
        for number in range(3):
            assert decode(await stream.recv()).frame_id == str(number)
        assert (await closing(stream)).code == 1001
    assert await asyncio.to_thread(service.stop) == 0
    assert "Traceback" not in service.log_text()


# REST


async def post(
    service: LocalService, body: Any, which: str = "object-detection", key: str | None = KEY
) -> httpx2.Response:
    headers = {} if key is None else {"authorization": f"ApiKey {key}"}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
        return await http.post(f"{service.rest_url}/v1/{which}", content=content, headers=headers)


def rest(image: bytes, **configurations: str) -> dict[str, Any]:
    return {
        "raw_data": base64.b64encode(image).decode(),
        "configurations": [{"parameter": name, "value": value} for name, value in configurations.items()],
    }


async def test_rest_answers_in_the_documented_shape(service: LocalService) -> None:
    for seed in range(4):
        await post(service, rest(as_jpeg(street(seed=seed))))
    answer = await post(service, rest(as_jpeg(street(BUS, seed=9))))
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"source_id", "frame_id", "service_id", "detected_objects"}
    assert (body["source_id"], body["frame_id"]) == ("", "")
    (car,) = body["detected_objects"]
    assert car.keys() == {"bounding_box", "parent", "cropped_image", "confidence", "name"}
    assert (car["name"], car["parent"], car["cropped_image"]) == ("moving", "object", "")
    assert car["bounding_box"].keys() == {"bottom", "top", "right", "left"}


@pytest.mark.parametrize(
    ("body", "key", "status", "says"),
    [
        (b"{", KEY, 400, "JSON"),
        (b"[" * 100_000, KEY, 400, "JSON"),
        ([], KEY, 400, "raw_data"),
        ({}, KEY, 400, "raw_data"),
        ({"raw_data": "***"}, KEY, 400, "base64"),
        ({"raw_data": "AAAA"}, KEY, 400, "JPEG"),
        ({"raw_data": "", "configurations": [1]}, KEY, 400, "configurations"),
        (rest(EMPTY_STREET, ConfidenceThreshold="7"), KEY, 400, "from 0 to 1"),
        (rest(EMPTY_STREET), None, 401, "API key"),
    ],
)
async def test_an_invalid_rest_request_gets_the_reason(
    service: LocalService, body: Any, key: str | None, status: int, says: str
) -> None:
    answer = await post(service, body, key=key)
    assert answer.status_code == status
    assert answer.json().keys() == {"message"}
    assert says in answer.json()["message"]


async def test_rest_above_the_rate_returns_retry_after(local_service: Callable[..., LocalService]) -> None:
    service = local_service(rate_limit_per_s=0.002)
    assert (await post(service, rest(EMPTY_STREET))).status_code == 200
    answer = await post(service, rest(EMPTY_STREET))
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 500
    assert answer.json().keys() == {"message"}


async def test_the_service_reports_its_status(service: LocalService) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        for path in ("/", "/healthz"):
            answer = await http.get(service.rest_url.removesuffix("/api") + path)
            assert (answer.status_code, answer.json()["service"]) == (200, "nvision-hub")


# Callbacks


@pytest.fixture
def receiver() -> Iterator[tuple[str, Queue[dict[str, Any]], list[int]]]:
    """Yield a callback endpoint's URL, the posted bodies, and the statuses that it returns before accepting a post."""
    posted: Queue[dict[str, Any]] = Queue()
    rejections: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = rejections.pop(0) if rejections else 204
            if status == 204:
                posted.put(json.loads(body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/callback/secret-token", posted, rejections
    server.shutdown()
    thread.join()
    server.server_close()


async def test_in_callback_mode_results_are_posted_and_the_stream_is_silent(
    local_service: Callable[..., LocalService], receiver: tuple[str, Queue[dict[str, Any]], list[int]]
) -> None:
    footage.packaged(packaged_models.FACES)
    url, posted, rejections = receiver
    rejections += [503, 503]
    service = local_service(callback_url=url)
    async with client(service, "face-detection") as stream:
        await stream.send(request(FACE, frame="f-1"))
        body = await asyncio.to_thread(posted.get, timeout=DEADLINE_S)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await stream.recv()
    assert (body["source_id"], body["frame_id"]) == ("lobby", "f-1")
    assert body["service_id"]
    assert body["detected_faces"][0]["bounding_box"].keys() == {"left", "top", "right", "bottom"}
    assert service.counted("service_callbacks_total", outcome="delivered") == 1


async def test_a_permanently_rejected_callback_is_dropped_and_its_token_not_logged(
    local_service: Callable[..., LocalService], receiver: tuple[str, Queue[dict[str, Any]], list[int]]
) -> None:
    url, _, rejections = receiver
    rejections += [401]
    service = local_service(callback_url=url)
    async with client(service) as stream:
        await stream.send(request(EMPTY_STREET))
        assert service.counted("service_callbacks_total", outcome="given_up") == 1
    assert "HTTP 401" in service.log_text()
    assert "secret-token" not in service.log_text()


# Failed starts


def failed_start(tmp_path: Path, env: Mapping[str, str] | None = None, **settings: Any) -> tuple[int, str]:
    service = LocalService(log=tmp_path / "log", settings={"port": 0} | settings)
    service.launch(env)
    try:
        return service.process.wait(PATIENCE_S), service.log_text()
    finally:
        service.kill()


def test_a_port_in_use_is_reported_with_a_fix(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, log = failed_start(tmp_path, port=port)
    assert code == 69
    assert f"127.0.0.1 port {port}" in log
    assert "choose another port" in log
    assert "Traceback" not in log


def test_missing_libgl_is_reported_with_the_fix(tmp_path: Path) -> None:
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "libGL.so.1").touch()  # the dynamic loader finds this invalid file first
    code, log = failed_start(tmp_path, {"LD_LIBRARY_PATH": os.fspath(libraries)})
    assert code == 69
    assert "apt-get install libgl1 libglib2.0-0" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("setting", ["model", "face_model"])
@pytest.mark.parametrize("content", [None, b"", b"no model at all"], ids=["missing", "empty", "garbage"])
def test_an_invalid_model_is_reported(tmp_path: Path, setting: str, content: bytes | None) -> None:
    model = tmp_path / "some.onnx"
    if content is not None:
        model.write_bytes(content)
    code, log = failed_start(tmp_path, env=None, **{setting: os.fspath(model)})
    assert code == 69
    assert f"model {model} cannot be" in log or f"cannot run the face model {model}" in log
    assert "Traceback" not in log


def test_an_invalid_callback_url_is_a_configuration_error(tmp_path: Path) -> None:
    code, log = failed_start(tmp_path, callback_url="ftp://user:hunter2@host/")
    assert code == 78
    assert "callback address" in log
    assert "hunter2" not in log
