"""The local service over its real doors: WebSocket and HTTP clients, real pictures, wrong ones, and its end."""

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

from nvision_hub.wire import NvisionRequest, Options, decode, encode_request
from tests.support.service import KEY, LocalService
from tests.support.street import Car, Person, as_jpeg, street

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

DEADLINE_S: Final = 10.0
EMPTY_STREET: Final = as_jpeg(street())
WALKER: Final = Person(x=300, feet=430, tall=180)
BUS: Final = Car(x=600, wheels=500, long=240)


@pytest.fixture(autouse=True)
async def _deadline() -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        yield


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    """One service for the tests that leave it as it was: any key is accepted, and each key is its own customer."""
    shared = LocalService(log=tmp_path_factory.mktemp("shared") / "log", settings={"port": 0})
    shared.start()
    yield shared
    assert shared.stop() == 0
    assert "Traceback" not in shared.said()


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


def request(picture: bytes, *, source: str = "lobby", frame: str = "1", **options: Any) -> bytes:
    return encode_request(
        source_id=source,
        frame_id=frame,
        created_at="2026-11-22T14:00:00.120Z",
        image=picture,
        options=Options(**options),
    )


async def answered(stream: Any, data: bytes) -> NvisionRequest:
    await stream.send(data)
    async with asyncio.timeout(DEADLINE_S):
        return decode(await stream.recv())


async def closing(stream: Any) -> websockets.frames.Close:
    """How the service closed the stream, past the results that came before."""
    with pytest.raises(websockets.ConnectionClosed) as closed:
        async with asyncio.timeout(DEADLINE_S):
            await drained(stream)
    assert closed.value.rcvd is not None
    return closed.value.rcvd


async def drained(stream: Any) -> None:
    while True:
        await stream.recv()


async def learned(stream: Any, source: str = "lobby") -> None:
    """Show the empty street until its background is known."""
    for seed in range(4):
        await answered(stream, request(as_jpeg(street(seed=seed)), source=source))


def overlap(found: Any, box: tuple[int, int, int, int]) -> float:
    """Intersection over union."""
    left, top = max(found.left, box[0]), max(found.top, box[1])
    right, bottom = min(found.right, box[2]), min(found.bottom, box[3])
    common = max(right - left, 0) * max(bottom - top, 0)
    union = (found.right - found.left) * (found.bottom - found.top) + (box[2] - box[0]) * (box[3] - box[1]) - common
    return float(common / union)


async def test_what_moves_is_found_where_it_is(service: LocalService) -> None:
    async with client(service, key=KEY) as stream:
        assert stream.subprotocol == KEY
        await learned(stream)
        result = await answered(stream, request(as_jpeg(street(WALKER, BUS, seed=9)), frame="frame-9"))
    assert (result.source_id, result.frame_id) == ("lobby", "frame-9")
    assert result.service_id
    found = {detection.name: detection for detection in result.detected_objects}
    assert set(found) == {"person", "car"}
    assert (found["person"].parent, found["car"].parent) == ("human", "vehicle")
    assert overlap(found["person"].bounding_box, WALKER.box) > 0.7
    assert overlap(found["car"].bounding_box, BUS.box) > 0.7
    assert all(0.5 < detection.confidence <= 1 for detection in found.values())
    assert not result.raw_data
    assert not found["person"].cropped_image


async def test_pictures_come_back_where_they_are_asked_for(service: LocalService) -> None:
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
        # The frame is green where the street has none.
        edge = drawn[box.top : box.bottom, box.left].astype(int)
        assert np.median(edge[:, 1] - edge[:, 2]) > 60


async def test_the_threshold_holds_back_what_is_less_sure(service: LocalService) -> None:
    pale = Person(x=300, feet=430, tall=60, coat=(110, 110, 110))
    async with client(service) as stream:
        for source in ("low", "high"):
            await learned(stream, source)
        picture = as_jpeg(street(pale, BUS, seed=9))
        everything = await answered(stream, request(picture, source="low", confidence_threshold=0))
        middle = max(detection.confidence for detection in everything.detected_objects)
        sure = await answered(stream, request(picture, source="high", confidence_threshold=middle - 0.001))
    assert len(everything.detected_objects) == 2
    assert [detection.name for detection in sure.detected_objects] == ["car"]


async def test_faces_are_found_in_a_single_picture(service: LocalService) -> None:
    async with client(service, "face-detection") as stream:
        result = await answered(stream, request(as_jpeg(street(WALKER))))
    assert not result.detected_objects
    (face,) = result.detected_faces
    assert (face.name, face.parent) == ("face", "human")
    left, top, right, _ = WALKER.box
    assert overlap(face.bounding_box, (left + 13, top, right - 13, top + 44)) > 0.6


async def test_only_the_named_classes_come_back(service: LocalService) -> None:
    async with client(service) as stream:
        await learned(stream)
        message = NvisionRequest(
            source_id="lobby", raw_data=as_jpeg(street(WALKER, BUS, seed=9)), target_classes=["vehicle"]
        )
        result = await answered(stream, message.SerializeToString())
    assert [detection.name for detection in result.detected_objects] == ["car"]


async def test_a_base64_picture_is_accepted(service: LocalService) -> None:
    async with client(service, "face-detection") as stream:
        message = NvisionRequest(encoding=NvisionRequest.BASE64, raw_data=base64.b64encode(as_jpeg(street(WALKER))))
        result = await answered(stream, message.SerializeToString())
    assert len(result.detected_faces) == 1


async def test_sources_do_not_see_each_others_background(service: LocalService) -> None:
    async with client(service) as stream:
        await learned(stream, "lobby")
        await learned(stream, "yard")
        picture = as_jpeg(street(WALKER, seed=9))
        assert len((await answered(stream, request(picture, source="lobby"))).detected_objects) == 1
        assert len((await answered(stream, request(picture, source="new"))).detected_objects) == 0
        assert len((await answered(stream, request(picture, source="yard"))).detected_objects) == 1


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
async def test_a_wrong_or_missing_key_is_refused_at_the_handshake(
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


async def test_rest_refuses_a_wrong_key(local_service: Callable[..., LocalService]) -> None:
    assert (await post(local_service(), rest(EMPTY_STREET), key="wrong")).status_code == 401


async def test_without_configured_keys_any_opens_the_door(local_service: Callable[..., LocalService]) -> None:
    async with client(local_service(streaming_keys=[]), key="whatever") as stream:
        assert stream.subprotocol == "whatever"


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
async def test_a_wrong_message_closes_its_stream_and_no_other(
    service: LocalService, message: bytes | str, code: int, reason: str
) -> None:
    async with client(service) as bystander:
        async with client(service) as stream:
            with contextlib.suppress(websockets.ConnectionClosed):
                await stream.send(message)
            assert (await closing(stream)).code == code
        service.counted("service_refused_total", reason=reason)
        assert (await answered(bystander, request(EMPTY_STREET))).frame_id == "1"


async def test_a_configuration_out_of_range_closes_the_stream_with_what_is_wrong(
    service: LocalService,
) -> None:
    async with client(service) as stream:
        message = NvisionRequest(raw_data=EMPTY_STREET)
        message.configurations.add(parameter="ConfidenceThreshold", value="2")
        await stream.send(message.SerializeToString())
        goodbye = await closing(stream)
    assert goodbye.code == 1008
    assert "from 0 to 1" in goodbye.reason


def _claims_to_be(width: int, height: int) -> bytes:
    """A small picture whose header says it is that large."""
    picture = bytearray(EMPTY_STREET)
    at = picture.index(b"\xff\xc0") + 5
    picture[at : at + 4] = height.to_bytes(2) + width.to_bytes(2)
    return bytes(picture)


@pytest.mark.parametrize(
    "picture",
    [b"", b"no picture", EMPTY_STREET[: len(EMPTY_STREET) // 2], EMPTY_STREET[:20], _claims_to_be(60_000, 60_000)],
    ids=["none", "text", "half", "header", "bomb"],
)
async def test_a_broken_picture_gets_an_empty_result_and_the_stream_goes_on(
    service: LocalService, picture: bytes
) -> None:
    async with client(service) as stream:
        result = await answered(stream, request(picture, frame="broken"))
        assert (result.frame_id, len(result.detected_objects)) == ("broken", 0)
        assert (await answered(stream, request(EMPTY_STREET, frame="whole"))).frame_id == "whole"
    service.counted("service_refused_total", reason="picture")


async def test_over_the_rate_a_stream_is_closed_and_the_next_one_told_to_wait(
    local_service: Callable[..., LocalService],
) -> None:
    service = local_service(rate_limit_per_s=2)
    async with client(service) as stream:
        for _ in range(2):
            await answered(stream, request(EMPTY_STREET))
        for _ in range(2):
            await stream.send(request(EMPTY_STREET))
        assert (await closing(stream)).code == 1013
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with client(service):
            pass
    assert refused.value.response.status_code == 429
    assert int(refused.value.response.headers["retry-after"]) >= 1


async def test_latency_delays_each_result_and_holds_up_none(local_service: Callable[..., LocalService]) -> None:
    async with client(local_service(latency_s=1.0)) as stream:
        began = time.monotonic()
        for number in range(10):
            await stream.send(request(EMPTY_STREET, frame=str(number)))
        async with asyncio.timeout(DEADLINE_S):
            frames = [decode(await stream.recv()).frame_id for _ in range(10)]
        took_s = time.monotonic() - began
    # Each waits out its own second, and two that end together may change places: results carry ids for that.
    assert sorted(frames) == [str(number) for number in range(10)]
    assert 1.0 <= took_s < 10.0  # one second after another it would have taken ten


async def test_at_its_end_it_sends_what_is_under_way_and_says_goodbye(
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
    assert "Traceback" not in service.said()


# REST


async def post(
    service: LocalService, body: Any, which: str = "object-detection", key: str | None = KEY
) -> httpx2.Response:
    headers = {} if key is None else {"authorization": f"ApiKey {key}"}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
        return await http.post(f"{service.rest_url}/v1/{which}", content=content, headers=headers)


def rest(picture: bytes, **configurations: str) -> dict[str, Any]:
    return {
        "raw_data": base64.b64encode(picture).decode(),
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
    assert (car["name"], car["parent"], car["cropped_image"]) == ("car", "vehicle", "")
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
async def test_a_wrong_rest_request_is_told_what_is_wrong(
    service: LocalService, body: Any, key: str | None, status: int, says: str
) -> None:
    answer = await post(service, body, key=key)
    assert answer.status_code == status
    assert answer.json().keys() == {"message"}
    assert says in answer.json()["message"]


async def test_rest_over_the_rate_says_when_to_come_back(local_service: Callable[..., LocalService]) -> None:
    service = local_service(rate_limit_per_s=0.1)
    assert (await post(service, rest(EMPTY_STREET))).status_code == 200
    answer = await post(service, rest(EMPTY_STREET))
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert answer.json().keys() == {"message"}


async def test_it_tells_that_it_lives(service: LocalService) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        for path in ("/", "/healthz"):
            answer = await http.get(service.rest_url.removesuffix("/api") + path)
            assert (answer.status_code, answer.json()["service"]) == (200, "nvision-hub")


# Callbacks


@pytest.fixture
def receiver() -> Iterator[tuple[str, Queue[dict[str, Any]], list[int]]]:
    """A callback endpoint: its address, what it was posted, and the statuses it gives before it takes anything."""
    posted: Queue[dict[str, Any]] = Queue()
    refusals: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = refusals.pop(0) if refusals else 204
            if status == 204:
                posted.put(json.loads(body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/callback/secret-token", posted, refusals
    server.shutdown()
    thread.join()
    server.server_close()


async def test_in_callback_mode_results_are_posted_and_the_stream_is_silent(
    local_service: Callable[..., LocalService], receiver: tuple[str, Queue[dict[str, Any]], list[int]]
) -> None:
    url, posted, refusals = receiver
    refusals += [503, 503]
    service = local_service(callback_url=url)
    async with client(service, "face-detection") as stream:
        await stream.send(request(as_jpeg(street(WALKER)), frame="f-1"))
        body = await asyncio.to_thread(posted.get, timeout=DEADLINE_S)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await stream.recv()
    assert (body["source_id"], body["frame_id"]) == ("lobby", "f-1")
    assert body["service_id"]
    assert body["detected_faces"][0]["bounding_box"].keys() == {"left", "top", "right", "bottom"}
    assert service.counted("service_callbacks_total", outcome="delivered") == 1


async def test_a_callback_that_refuses_for_good_is_given_up_and_its_token_not_logged(
    local_service: Callable[..., LocalService], receiver: tuple[str, Queue[dict[str, Any]], list[int]]
) -> None:
    url, _, refusals = receiver
    refusals += [401]
    service = local_service(callback_url=url)
    async with client(service) as stream:
        await stream.send(request(EMPTY_STREET))
        assert service.counted("service_callbacks_total", outcome="given_up") == 1
    assert "HTTP 401" in service.said()
    assert "secret-token" not in service.said()


# Starts that cannot be


def failed_start(tmp_path: Path, env: Mapping[str, str] | None = None, **settings: Any) -> tuple[int, str]:
    service = LocalService(log=tmp_path / "log", settings={"port": 0} | settings)
    service.launch(env)
    try:
        return service.process.wait(20), service.said()
    finally:
        service.kill()


def test_a_port_in_use_is_named_with_its_mend(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = failed_start(tmp_path, port=port)
    assert code == 69
    assert f"127.0.0.1 port {port}" in said
    assert "choose another port" in said
    assert "Traceback" not in said


def test_a_machine_without_libgl_is_told_what_to_install(tmp_path: Path) -> None:
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "libGL.so.1").touch()  # found first by the loader, and as good as none
    code, said = failed_start(tmp_path, {"LD_LIBRARY_PATH": os.fspath(libraries)})
    assert code == 69
    assert "apt-get install libgl1 libglib2.0-0" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("setting", ["model", "face_model"])
@pytest.mark.parametrize("content", [None, b"", b"no model at all"], ids=["missing", "empty", "garbage"])
def test_a_model_that_is_none_is_named(tmp_path: Path, setting: str, content: bytes | None) -> None:
    model = tmp_path / "some.onnx"
    if content is not None:
        model.write_bytes(content)
    code, said = failed_start(tmp_path, env=None, **{setting: os.fspath(model)})
    assert code == 69
    assert f"model {model} cannot be" in said or f"cannot run the face model {model}" in said
    assert "Traceback" not in said


def test_a_callback_address_that_is_none_is_a_configuration_error(tmp_path: Path) -> None:
    code, said = failed_start(tmp_path, callback_url="ftp://user:hunter2@host/")
    assert code == 78
    assert "callback address" in said
    assert "hunter2" not in said
