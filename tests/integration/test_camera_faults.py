"""Cameras with faults on real servers: the state and error that operators see, and the recovery.

A single hub runs the faulty cameras and a healthy camera, which must stay unaffected.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support import clips
from tests.support.http_camera import HttpCamera
from tests.support.hub import Hub, end, write
from tests.support.patience import is_on_time
from tests.support.recorder import Recorder
from tests.support.rtsp import GstCamera

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.long


H264: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
STALL_S: Final = 2.0


class Listener:
    """A camera that sends every client the same response, or none, and records the requests."""

    def __init__(self, answer: str | None) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.received: list[bytes] = []
        self._callers: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:  # the listener is closed
                return
            self._callers.append(caller)
            threading.Thread(target=self._talk, args=(caller,), daemon=True).start()

    def _talk(self, caller: socket.socket) -> None:
        try:
            while data := caller.recv(65536):
                self.received.append(data)
                if self._answer is not None:
                    sequence = data.partition(b"CSeq: ")[2].partition(b"\r\n")[0].decode()
                    caller.sendall(self._answer.replace("{sequence}", sequence).encode())
        except OSError:
            return  # the client has disconnected, or the test has ended

    def close(self) -> None:
        self._socket.close()
        for caller in self._callers:
            caller.close()


@dataclass(frozen=True, kw_only=True)
class FaultyCameras:
    """The hub and its cameras' servers."""

    hub: Hub
    recorder: Recorder
    late: GstCamera
    frozen: GstCamera
    rebooted: GstCamera
    target: HttpCamera
    rtsp_target: Listener


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyCameras]:
    folder = tmp_path_factory.mktemp("faulty")

    def gst(name: str, **options: Any) -> GstCamera:
        (folder / name).mkdir()
        camera = GstCamera(folder=folder / name, mounts={"/cam": H264}, **options)
        camera.start()
        return camera

    late, frozen, rebooted = gst("late"), gst("frozen"), gst("rebooted")
    guarded = gst("guarded", user="viewer", password="right")
    target, redirecting = HttpCamera(), HttpCamera()
    redirecting.redirect_to = target.url()
    rtsp_target, silent = Listener(None), Listener(None)
    moved = Listener(
        "RTSP/1.0 302 Moved\r\nCSeq: {sequence}\r\n"
        f"Location: rtsp://viewer:right@127.0.0.1:{rtsp_target.port}/cam\r\n\r\n"
    )
    (folder / "recorder").mkdir()
    recorder = Recorder(folder=folder / "recorder")
    recorder.start()
    late.kill()
    urls = {
        "wrong-password": guarded.url(user="viewer", password="wr0ng-secret"),
        "no-such-path": rebooted.url("/nowhere"),
        "late": late.url(),
        "frozen": frozen.url(),
        "rebooted": rebooted.url(),
        "http-redirect": redirecting.url(),
        "snapshot-redirect": "snapshot+" + redirecting.url("/snapshot.jpg"),
        "rtsp-redirect": f"rtsp://127.0.0.1:{moved.port}/cam",
        "silent": f"rtsp://127.0.0.1:{silent.port}/cam",
        "no-video": f"http://127.0.0.1:{target.port}/snapshot.jpg",
    }
    healthy = gst("healthy")
    urls["healthy"] = healthy.url()
    cameras = [{"id": name, "url": url, "fps": 5, "stall_timeout": STALL_S} for name, url in urls.items()]
    write(folder, cameras, recorder)
    hub = Hub(folder=folder)
    try:
        hub.start()
        yield FaultyCameras(
            hub=hub,
            recorder=recorder,
            late=late,
            frozen=frozen,
            rebooted=rebooted,
            target=target,
            rtsp_target=rtsp_target,
        )
    finally:
        end(hub)
        for server in (late, frozen, rebooted, guarded, healthy, recorder):
            server.kill()
        for camera in (target, redirecting):
            camera.close()
        for listener in (rtsp_target, silent, moved):
            listener.close()


def test_a_frozen_camera_is_detected_and_recovers(faulty: FaultyCameras) -> None:
    faulty.hub.wait_for_state("frozen", "streaming")
    faulty.recorder.wait_for(10, "frozen")
    frozen_at = time.monotonic()
    faulty.frozen.suspend()
    stalled_at = faulty.hub.wait_for_state("frozen", "stalled")
    # A worker reports once a second, and the hub's program prints the states twice a second.
    assert is_on_time(stalled_at - frozen_at, STALL_S + 2 + 1.5)
    assert "has sent nothing for 2 s" in (faulty.hub.camera("frozen").error or "")
    faulty.frozen.resume()
    faulty.hub.wait_for_state("frozen", "streaming", since=stalled_at)
    assert faulty.hub.camera("frozen").restarts == 0


def test_a_wrong_password_is_reported_and_rarely_retried(faulty: FaultyCameras) -> None:
    faulty.hub.wait_for_state("wrong-password", "auth_failed")
    camera = faulty.hub.camera("wrong-password")
    assert "refused the user name or password; correct `username` and `password`" in (camera.error or "")
    assert camera.metrics["camera_reconnects_total{reason=auth_failed}"] == 1
    assert "wr0ng-secret" not in faulty.hub.log() + (camera.error or "")


def test_a_camera_that_is_switched_on_late_streams(faulty: FaultyCameras) -> None:
    faulty.hub.wait_for_state("late", "unreachable")
    assert "connection refused by rtsp://127.0.0.1" in (faulty.hub.camera("late").error or "")
    faulty.late.start()
    faulty.hub.wait_for_state("late", "streaming")
    assert faulty.hub.camera("late").error is None


def test_a_camera_that_reboots_streams_again(faulty: FaultyCameras) -> None:
    faulty.hub.wait_for_state("rebooted", "streaming")
    faulty.recorder.wait_for(5, "rebooted")
    faulty.rebooted.kill()
    gone_at = faulty.hub.wait_for_state("rebooted", "unreachable")
    faulty.rebooted.start()
    faulty.hub.wait_for_state("rebooted", "streaming", 20, since=gone_at)
    faulty.hub.wait_for_results("rebooted", len(faulty.recorder.received("rebooted")) + 5)


def test_a_missing_path_is_reported(faulty: FaultyCameras) -> None:
    faulty.hub.wait_for_state("no-such-path", "not_found")
    assert "correct the path in this camera's `url`" in (faulty.hub.camera("no-such-path").error or "")


@pytest.mark.parametrize("camera", ["http-redirect", "snapshot-redirect"])
def test_a_redirect_to_another_host_is_not_followed(faulty: FaultyCameras, camera: str) -> None:
    faulty.hub.wait_until(lambda: faulty.hub.camera(camera).error is not None)
    assert not [request for request in faulty.target.requests if request != "GET /snapshot.jpg"]
    assert faulty.hub.camera(camera).total("frames_sent_total") == 0


def test_an_rtsp_redirect_to_another_host_is_not_followed(faulty: FaultyCameras) -> None:
    faulty.hub.wait_until(lambda: faulty.hub.camera("rtsp-redirect").error is not None)
    assert faulty.rtsp_target.received == []


def test_a_camera_that_accepts_and_sends_nothing_is_stalled(faulty: FaultyCameras) -> None:
    faulty.hub.wait_for_state("silent", "stalled")


def test_a_stream_without_video_is_reported(faulty: FaultyCameras) -> None:
    faulty.hub.wait_until(lambda: faulty.hub.camera("no-video").error is not None)
    assert faulty.hub.camera("no-video").restarts == 0


def test_the_healthy_camera_is_unaffected(faulty: FaultyCameras) -> None:
    faulty.hub.wait_for_results("healthy", 40)
    times = [message.at for message in faulty.recorder.received("healthy")]
    assert is_on_time(max(later - earlier for earlier, later in pairwise(times[2:])), 1.5)
    assert faulty.hub.states("healthy") in (["connecting", "streaming"], ["streaming"])


def test_no_fault_restarts_a_worker(faulty: FaultyCameras) -> None:
    began = time.monotonic()
    names = [name.partition(":")[2] for name in faulty.hub.members() if name.startswith("camera:")]
    assert {faulty.hub.camera(name).restarts for name in names} == {0}
    assert faulty.hub.stop() == 0
    assert is_on_time(time.monotonic() - began, 10)
