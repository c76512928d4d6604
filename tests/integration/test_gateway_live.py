"""The live view over real WebSockets: who may look on, what they are sent, and what one who does not read costs."""

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

from tests.support.clips import ClipSpec
from tests.support.gateway import CAMERA_PID, counted, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.gateway import Overseen
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera

WITHIN_S: Final = 30.0
CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=4)


@contextlib.contextmanager
def viewer(url: str, first: Any = None, **options: Any) -> Iterator[ClientConnection]:
    """A viewer that has said its first words."""
    address = url.replace("http://", "ws://") + "/api/v1/live"
    with connect(address, proxy=None, max_size=2**24, **options) as socket:
        socket.send(json.dumps(first if first is not None else {"token": None}))
        yield socket


def heard(socket: ClientConnection, wanted: Callable[[Any], bool], within_s: float = WITHIN_S) -> Any:
    """The first message that is wanted: JSON decoded, or a picture's bytes."""
    deadline = time.monotonic() + within_s
    while True:
        message = socket.recv(timeout=max(0.001, deadline - time.monotonic()))
        decoded = message if isinstance(message, bytes) else json.loads(message)
        if wanted(decoded):
            return decoded


def of_kind(kind: str) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, dict) and message["kind"] == kind


def picture_of(frame_id: str) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, bytes) and f'"{frame_id}"'.encode() in message[:200]


def publish(one: Overseen, channel: str, data: bytes | str) -> int:
    """How many heard it."""
    with redis.Redis.from_url(one.settings.stream.url) as client:
        number: Any = client.publish(f"nvision:{channel}", data)
    return int(number)


def published(one: Overseen, channel: str, data: bytes | str) -> None:
    """Once somebody listens."""
    deadline = time.monotonic() + WITHIN_S
    while not publish(one, channel, data):
        assert time.monotonic() < deadline, "nobody listens"
        time.sleep(0.02)


def preview(camera: str, frame_id: str, jpeg: bytes = b"\xff\xd8picture") -> bytes:
    header = json.dumps(
        {"camera": camera, "frame_id": frame_id, "captured_at": 1.5, "width": 4, "height": 3, "sequence": 1}
    ).encode()
    return len(header).to_bytes(4, "big") + header + jpeg


def test_a_viewer_sees_the_fleet_and_then_its_changes(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    one.camera("lobby", counted(frames_sent_total=5))
    one.camera("gate")
    with viewer(one.url) as socket:
        fleet = heard(socket, of_kind("fleet"))
        assert fleet["hub"]["site"] == "test"
        assert [camera["id"] for camera in fleet["cameras"]] == ["lobby", "gate"]
        one.report("camera:lobby", status(CAMERA_PID, counted(frames_sent_total=6)))
        changed = heard(socket, lambda m: of_kind("cameras")(m) and m["cameras"][0]["sent"] == 6)
        assert [camera["id"] for camera in changed["cameras"]] == ["lobby"]
        one.gone("camera:gate")
        assert heard(socket, of_kind("removed"))["ids"] == ["gate"]


def test_results_and_pictures_come_of_watched_cameras_alone(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    one.camera("lobby")
    one.camera("gate")
    with viewer(one.url, {"token": None, "watch": ["lobby"], "width": 320, "fps": 10}) as socket:
        one.wait_for(lambda: any(ask.arguments.get("verb") == "watch" for ask in one.asks))
        ask = next(ask for ask in one.asks if ask.arguments.get("verb") == "watch")
        assert (ask.verb, ask.arguments["target"]) == ("pass", "camera:lobby")
        assert ask.arguments["arguments"] == {"width": 320, "fps": 10.0, "for_s": 5.0}
        published(one, "previews:lobby", preview("lobby", "f1"))
        assert publish(one, "previews:gate", preview("gate", "f2")) == 0, "nobody watches it"
        assert heard(socket, lambda m: isinstance(m, bytes)) == preview("lobby", "f1")
        event = {
            "frame_id": "f1",
            "raw_data": "cGl4ZWxz",
            "detected_objects": [{"name": "person", "cropped_image": "cGl4ZWxz"}],
            "hub": {"camera": "lobby"},
        }
        published(one, "results:lobby", json.dumps(event))
        shown = heard(socket, of_kind("result"))["event"]
        assert shown == {"frame_id": "f1", "detected_objects": [{"name": "person"}], "hub": {"camera": "lobby"}}
        published(one, "events", json.dumps({"kind": "camera_state", "camera": "gate"}))
        assert heard(socket, of_kind("news"))["event"] == {"kind": "camera_state", "camera": "gate"}
        socket.send(json.dumps({"watch": ["gate"], "width": None, "fps": 1}))
        published(one, "previews:gate", preview("gate", "f3"))
        assert heard(socket, lambda m: isinstance(m, bytes)) == preview("gate", "f3")
        assert publish(one, "previews:lobby", preview("lobby", "f4")) == 0


@pytest.mark.long
def test_while_nobody_looks_nothing_is_asked_or_heard(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    one.camera("lobby")
    with viewer(one.url, {"token": None, "watch": ["lobby"]}) as socket:
        published(one, "previews:lobby", preview("lobby", "f1"))
        heard(socket, lambda m: isinstance(m, bytes))
    deadline = time.monotonic() + WITHIN_S
    while publish(one, "previews:lobby", b"") or publish(one, "events", b"{}"):
        assert time.monotonic() < deadline, "somebody still listens"
        time.sleep(0.05)
    asked = len(one.asks)
    reports = len(one.statuses)
    one.wait_for(lambda: len(one.statuses) >= reports + 4)  # seconds
    assert len(one.asks) <= asked + 1
    assert one.statuses[-1].row["viewers"] == 0


def test_a_wrong_token_is_told_and_closed(overseen: Callable[..., Overseen]) -> None:
    one = overseen(token="right")
    with viewer(one.url, {"token": "right"}) as socket:
        heard(socket, of_kind("fleet"))
    wrong: list[Any] = [{"token": "wrong"}, {"token": None}, {}, {"token": 5}, {"token": ["right"]}]
    for first in wrong:
        with viewer(one.url, first) as socket:
            assert json.loads(socket.recv(WITHIN_S))["kind"] == "error"
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(WITHIN_S)
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


def test_a_message_that_says_nothing_is_told_and_closed(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    for message in NONSENSE:
        with viewer(one.url) as socket:
            socket.send(message)
            assert "must be JSON" in heard(socket, of_kind("error"))["detail"]
            with pytest.raises(ConnectionClosed) as closed:
                heard(socket, lambda _m: False)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4400
    with one.client() as client:
        assert client.get("/healthz").status_code == 200


def test_another_sites_page_may_not_look_on(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        with pytest.raises(InvalidStatus) as refused, viewer(one.url, origin=origin):
            pass
        assert refused.value.response.status_code == 403
    with viewer(one.url, origin=one.url) as socket:
        heard(socket, of_kind("fleet"))


@pytest.mark.long
def test_a_viewer_that_is_stopped_delays_nobody_and_is_let_go(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    one.camera("lobby")
    address = one.url.replace("http://", "ws://") + "/api/v1/live"
    with subprocess.Popen([sys.executable, "-c", _VIEWER, address], stdout=subprocess.PIPE) as stopped:
        try:
            assert stopped.stdout is not None
            assert stopped.stdout.readline().strip() == b"looking"
            one.wait_for(lambda: one.statuses[-1].row["viewers"] == 1)
            stopped.send_signal(signal.SIGSTOP)
            with viewer(one.url, {"token": None, "watch": ["lobby"], "fps": 30}) as socket:
                picture = b"\xff\xd8" + bytes(500_000)
                for number in range(30):  # 15 MB, far beyond what any buffer on the way holds
                    frame_id = f"f{number}"
                    published(one, "previews:lobby", preview("lobby", frame_id, picture))
                    began = time.monotonic()
                    heard(socket, picture_of(frame_id))
                    assert time.monotonic() - began < 5
                    time.sleep(0.04)  # it has asked for no more than 30 a second
            one.wait_for(lambda: one.statuses[-1].row["viewers"] == 0, 40)
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
def test_a_connection_that_says_nothing_is_let_go(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    address = one.url.replace("http://", "ws://") + "/api/v1/live"
    with connect(address, proxy=None) as silent, pytest.raises(ConnectionClosed):
        silent.recv(WITHIN_S)


@pytest.mark.long
@pytest.mark.slow
def test_a_real_hub_shows_its_pictures_and_what_was_seen_in_them(
    start_hub: Callable[..., Hub], gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder]
) -> None:
    hub = start_hub([{"id": "lobby", "url": gst_camera(CLIP).url(), "fps": 5}], recorder(), gateway=True)
    hub.wait_for_results("lobby", 3)
    with viewer(hub.gateway(), {"token": None, "watch": ["lobby"], "width": 320, "fps": 5}) as socket:
        assert heard(socket, of_kind("fleet"))["cameras"][0]["state"] == "streaming"
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

        heard(socket, matched)


def test_a_browser_that_vanishes_is_no_error(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    address = one.url.removeprefix("http://").split(":")
    for _ in range(3):
        with viewer(one.url) as live:
            heard(live, of_kind("fleet"))
            live.socket.shutdown(socket.SHUT_RDWR)
    with socket.create_connection((address[0], int(address[1]))) as bare:
        bare.sendall(b"GET /api/v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 4" in bare.recv(1000).split(b"\r\n")[0]
    with one.client() as client:
        assert client.get("/healthz").status_code == 200
    one.wait_for(lambda: one.statuses[-1].row["viewers"] == 0)
