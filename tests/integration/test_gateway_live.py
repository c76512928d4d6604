"""The live view over real WebSockets: access, messages, and viewers that do not read."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from nvision_hub.runtime.messages import RequestPreview
from nvision_hub.runtime.status import GatewayInfo
from tests.support.clips import ClipSpec
from tests.support.gateway import CAMERA_PID, counted, status
from tests.support.patience import is_on_time
from tests.support.statuses import info_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.gateway import SupervisedGateway
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.redis_server import KeptValkey
    from tests.support.rtsp import GstCamera

TIMEOUT_S: Final = 30.0
CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=4)


@contextlib.contextmanager
def viewer(url: str, first: Any = None, **options: Any) -> Iterator[ClientConnection]:
    """Connect a viewer and send its first message."""
    address = url.replace("http://", "ws://") + "/api/v1/live"
    with connect(address, proxy=None, max_size=2**24, **options) as socket:
        socket.send(json.dumps(first if first is not None else {"token": None}))
        yield socket


def receive_until(socket: ClientConnection, wanted: Callable[[Any], bool], timeout_s: float = TIMEOUT_S) -> Any:
    """Return the first matching message: decoded JSON, or the bytes of a preview."""
    deadline = time.monotonic() + timeout_s
    while True:
        message = socket.recv(timeout=max(0.001, deadline - time.monotonic()))
        decoded = message if isinstance(message, bytes) else json.loads(message)
        if wanted(decoded):
            return decoded


def of_kind(kind: str) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, dict) and message["kind"] == kind


def preview_of(frame_id: str) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, bytes) and f'"{frame_id}"'.encode() in message[:200]


def publish(one: SupervisedGateway, channel: str, data: bytes | str) -> int:
    """Publish a message. Return the number of subscribers that receive it."""
    with redis.Redis.from_url(one.settings.stream.url) as client:
        number: Any = client.publish(f"nvision:{channel}", data)
    return int(number)


def published(one: SupervisedGateway, channel: str, data: bytes | str) -> None:
    """Publish a message as soon as a subscriber exists."""
    deadline = time.monotonic() + TIMEOUT_S
    while not publish(one, channel, data):
        assert time.monotonic() < deadline, "the gateway did not subscribe in time"
        time.sleep(0.02)


def preview(camera: str, frame_id: str, jpeg: bytes = b"\xff\xd8jpeg") -> bytes:
    header = json.dumps(
        {"camera": camera, "frame_id": frame_id, "captured_at": 1.5, "width": 4, "height": 3, "sequence": 1}
    ).encode()
    return len(header).to_bytes(4, "big") + header + jpeg


def test_a_viewer_sees_the_fleet_and_then_its_changes(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    one.camera("lobby", counted(frames_sent_total=5))
    one.camera("gate")
    with viewer(one.url) as socket:
        fleet = receive_until(socket, of_kind("fleet"))
        assert fleet["hub"]["site"] == "test"
        assert [camera["id"] for camera in fleet["cameras"]] == ["lobby", "gate"]
        one.report("camera:lobby", status(CAMERA_PID, counted(frames_sent_total=6)))
        changed = receive_until(socket, lambda m: of_kind("cameras")(m) and m["cameras"][0]["sent"] == 6)
        assert [camera["id"] for camera in changed["cameras"]] == ["lobby"]
        one.remove_process("camera:gate")
        assert receive_until(socket, of_kind("removed"))["ids"] == ["gate"]


def test_only_cameras_in_view_send_results_and_previews(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    one.camera("lobby")
    one.camera("gate")
    with viewer(one.url, {"token": None, "watch": ["lobby"], "width": 320, "fps": 10}) as socket:
        one.wait_for(lambda: bool(one.forwarded(RequestPreview)))
        assert one.forwarded(RequestPreview)[0] == (
            "camera:lobby",
            RequestPreview(width=320, fps=10.0, duration_s=5.0),
        )
        published(one, "previews:lobby", preview("lobby", "f1"))
        assert publish(one, "previews:gate", preview("gate", "f2")) == 0, (
            "a camera without viewers must have no subscriber"
        )
        assert receive_until(socket, lambda m: isinstance(m, bytes)) == preview("lobby", "f1")
        found = {"name": "person", "confidence": 0.9}
        event = {
            "frame_id": "f1",
            "detected_objects": [{**found, "cropped_image": "x" * 100_000}],
            "hub": {"id": "f1", "camera": "lobby"},
            "raw_data": "y" * 100_000,
        }
        published(one, "results:lobby", json.dumps(event))
        shown = receive_until(socket, of_kind("result"))["event"]
        assert shown == {"frame_id": "f1", "detected_objects": [found], "hub": {"id": "f1", "camera": "lobby"}}
        published(one, "events", json.dumps({"kind": "camera_state", "camera": "gate"}))
        assert receive_until(socket, of_kind("news"))["event"] == {"kind": "camera_state", "camera": "gate"}
        socket.send(json.dumps({"watch": ["gate"], "width": None, "fps": 1}))
        published(one, "previews:gate", preview("gate", "f3"))
        assert receive_until(socket, lambda m: isinstance(m, bytes)) == preview("gate", "f3")
        assert publish(one, "previews:lobby", preview("lobby", "f4")) == 0


def test_a_viewer_receives_messages_again_after_a_restart_of_redis(
    start_gateway: Callable[..., SupervisedGateway], kept_valkey: Callable[..., KeptValkey]
) -> None:
    broker = kept_valkey()
    broker.start()
    one = start_gateway(broker=broker)
    one.camera("lobby")
    with viewer(one.url, {"token": None, "watch": ["lobby"]}) as socket:
        published(one, "previews:lobby", preview("lobby", "f1"))
        receive_until(socket, preview_of("f1"))
        broker.kill()
        broker.start()
        published(one, "previews:lobby", preview("lobby", "f2"))
        receive_until(socket, preview_of("f2"))


@pytest.mark.long
def test_without_viewers_nothing_is_requested_or_received(
    start_gateway: Callable[..., SupervisedGateway],
) -> None:
    one = start_gateway()
    one.camera("lobby")
    with viewer(one.url, {"token": None, "watch": ["lobby"]}) as socket:
        published(one, "previews:lobby", preview("lobby", "f1"))
        receive_until(socket, lambda m: isinstance(m, bytes))
    deadline = time.monotonic() + TIMEOUT_S
    while publish(one, "previews:lobby", b"") or publish(one, "events", b"{}"):
        assert time.monotonic() < deadline, "the gateway did not unsubscribe in time"
        time.sleep(0.05)
    asked = len(one.requests)
    reports = len(one.statuses)
    one.wait_for(lambda: len(one.statuses) >= reports + 4)  # one report per second
    assert len(one.requests) <= asked + 1
    assert info_as(one.statuses[-1], GatewayInfo).viewers == 0


def test_a_wrong_token_is_rejected(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway(token="right")
    with viewer(one.url, {"token": "right"}) as socket:
        receive_until(socket, of_kind("fleet"))
    wrong: list[Any] = [{"token": "wrong"}, {"token": None}, {}, {"token": 5}, {"token": ["right"]}]
    for first in wrong:
        with viewer(one.url, first) as socket:
            assert json.loads(socket.recv(TIMEOUT_S))["kind"] == "error"
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(TIMEOUT_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


NONSENSE: Final[list[str | bytes]] = [
    "no JSON",
    "[]",
    "1e400",
    b"\x00",
    '{"watch": "lobby"}',
    '{"watch": [1]}',
    '{"watch": [], "width": -1}',
    '{"watch": [], "width": 1e9}',
    '{"watch": [], "fps": 0}',
    '{"watch": [], "fps": NaN}',
    "[" * 100_000,
]


def test_a_malformed_message_is_rejected(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    for message in NONSENSE:
        with viewer(one.url) as socket:
            socket.send(message)
            assert "must be JSON" in receive_until(socket, of_kind("error"))["detail"]
            with pytest.raises(ConnectionClosed) as closed:
                receive_until(socket, lambda _m: False)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4400
    with one.client() as client:
        assert client.get("/healthz").status_code == 200


def test_pages_of_other_sites_are_rejected(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        with pytest.raises(InvalidStatus) as refused, viewer(one.url, origin=origin):
            pass
        assert refused.value.response.status_code == 403
    with viewer(one.url, origin=one.url) as socket:
        receive_until(socket, of_kind("fleet"))


@pytest.mark.long
def test_a_stopped_viewer_delays_no_other_and_is_disconnected(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    one.camera("lobby")
    address = one.url.replace("http://", "ws://") + "/api/v1/live"
    with subprocess.Popen([sys.executable, "-c", _VIEWER, address], stdout=subprocess.PIPE) as stopped:
        try:
            assert stopped.stdout is not None
            assert stopped.stdout.readline().strip() == b"looking"
            one.wait_for(lambda: info_as(one.statuses[-1], GatewayInfo).viewers == 1)
            stopped.send_signal(signal.SIGSTOP)
            with viewer(one.url, {"token": None, "watch": ["lobby"], "fps": 30}) as socket:
                jpeg = b"\xff\xd8" + bytes(500_000)
                for number in range(30):  # 15 MB, more than all buffers hold
                    frame_id = f"f{number}"
                    published(one, "previews:lobby", preview("lobby", frame_id, jpeg))
                    began = time.monotonic()
                    receive_until(socket, preview_of(frame_id))
                    assert is_on_time(time.monotonic() - began, 5)
                    time.sleep(0.04)  # the viewer requested at most 30 previews per second
            one.wait_for(lambda: info_as(one.statuses[-1], GatewayInfo).viewers == 0)
        finally:
            stopped.kill()


_VIEWER: Final = """
import json, sys, time
from websockets.sync.client import connect
with connect(sys.argv[1], proxy=None) as socket:
    socket.send(json.dumps({"token": None, "watch": ["lobby"], "fps": 30}))
    socket.recv()
    print("looking", flush=True)
    for message in socket:
        pass
"""


@pytest.mark.long
def test_a_silent_connection_is_closed(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    address = one.url.replace("http://", "ws://") + "/api/v1/live"
    with connect(address, proxy=None) as silent, pytest.raises(ConnectionClosed):
        silent.recv(TIMEOUT_S)


@pytest.mark.long
@pytest.mark.slow
def test_a_real_hub_shows_frames_and_detections(
    start_hub: Callable[..., Hub], gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder]
) -> None:
    hub = start_hub([{"id": "lobby", "url": gst_camera(CLIP).url(), "fps": 5}], recorder(), gateway=True)
    hub.wait_for_results("lobby", 3)
    with viewer(hub.gateway(), {"token": None, "watch": ["lobby"], "width": 320, "fps": 5}) as socket:
        assert receive_until(socket, of_kind("fleet"))["cameras"][0]["state"] == "streaming"
        results: set[str] = set()
        frames: set[str] = set()

        def matched(message: Any) -> bool:
            if isinstance(message, bytes):
                length = int.from_bytes(message[:4])
                frames.add(json.loads(message[4 : 4 + length])["frame_id"])
                assert message[4 + length :].startswith(b"\xff\xd8")
            elif message["kind"] == "result":
                results.add(message["event"]["frame_id"])
            return len(results & frames) >= 5

        receive_until(socket, matched)


def test_a_vanished_browser_causes_no_error(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    address = one.url.removeprefix("http://").split(":")
    for _ in range(3):
        with viewer(one.url) as live:
            receive_until(live, of_kind("fleet"))
            live.socket.shutdown(socket.SHUT_RDWR)
    with socket.create_connection((address[0], int(address[1]))) as bare:
        bare.sendall(b"GET /api/v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 4" in bare.recv(1000).split(b"\r\n")[0]
    with one.client() as client:
        assert client.get("/healthz").status_code == 200
    one.wait_for(lambda: info_as(one.statuses[-1], GatewayInfo).viewers == 0)
