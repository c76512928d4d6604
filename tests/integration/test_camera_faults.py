"""Cameras in trouble, each with a real server behind it: the state that operators see, the sentence, and the way back.

One hub runs them all beside a healthy camera, which must not notice.
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
from tests.support.recorder import Recorder
from tests.support.rtsp import GstCamera

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.long


H264: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
STALL_S: Final = 2.0


class Listener:
    """A camera that says one thing to whoever calls, or nothing at all, and notes what it was told."""

    def __init__(self, answer: str | None) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.heard: list[bytes] = []
        self._callers: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:  # closed
                return
            self._callers.append(caller)
            threading.Thread(target=self._talk, args=(caller,), daemon=True).start()

    def _talk(self, caller: socket.socket) -> None:
        try:
            while data := caller.recv(65536):
                self.heard.append(data)
                if self._answer is not None:
                    sequence = data.partition(b"CSeq: ")[2].partition(b"\r\n")[0].decode()
                    caller.sendall(self._answer.replace("{sequence}", sequence).encode())
        except OSError:
            return  # the caller, or the test, has gone

    def close(self) -> None:
        self._socket.close()
        for caller in self._callers:
            caller.close()


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """The hub and the servers that its cameras are behind."""

    hub: Hub
    recorder: Recorder
    late: GstCamera
    frozen: GstCamera
    rebooted: GstCamera
    target: HttpCamera
    rtsp_target: Listener


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    folder = tmp_path_factory.mktemp("trouble")

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
        yield Trouble(
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


def test_a_frozen_camera_is_noticed_and_comes_back(trouble: Trouble) -> None:
    trouble.hub.wait_for_state("frozen", "streaming")
    trouble.recorder.wait_for(10, "frozen")
    frozen_at = time.monotonic()
    trouble.frozen.suspend()
    stalled_at = trouble.hub.wait_for_state("frozen", "stalled")
    # The report comes once a second, and what the supervisor knows is told twice a second.
    assert stalled_at - frozen_at < STALL_S + 2 + 1.5
    assert "has sent nothing for 2 s" in (trouble.hub.camera("frozen").error or "")
    trouble.frozen.resume()
    trouble.hub.wait_for_state("frozen", "streaming", since=stalled_at)
    assert trouble.hub.camera("frozen").restarts == 0


def test_a_wrong_password_is_named_and_not_tried_again_and_again(trouble: Trouble) -> None:
    trouble.hub.wait_for_state("wrong-password", "auth_failed")
    camera = trouble.hub.camera("wrong-password")
    assert "refused the user name or password; correct `username` and `password`" in (camera.error or "")
    assert camera.metrics["camera_reconnects_total{reason=auth_failed}"] == 1
    assert "wr0ng-secret" not in trouble.hub.log() + (camera.error or "")


def test_a_camera_that_is_switched_on_late_streams(trouble: Trouble) -> None:
    trouble.hub.wait_for_state("late", "unreachable")
    assert "nobody listens at rtsp://127.0.0.1" in (trouble.hub.camera("late").error or "")
    trouble.late.start()
    trouble.hub.wait_for_state("late", "streaming", 20)
    assert trouble.hub.camera("late").error is None


def test_a_camera_that_reboots_streams_again(trouble: Trouble) -> None:
    trouble.hub.wait_for_state("rebooted", "streaming")
    trouble.recorder.wait_for(5, "rebooted")
    trouble.rebooted.kill()
    gone_at = trouble.hub.wait_for_state("rebooted", "unreachable")
    trouble.rebooted.start()
    trouble.hub.wait_for_state("rebooted", "streaming", 20, since=gone_at)
    trouble.hub.wait_for_results("rebooted", len(trouble.recorder.received("rebooted")) + 5)


def test_a_path_that_is_not_there_is_named(trouble: Trouble) -> None:
    trouble.hub.wait_for_state("no-such-path", "not_found")
    assert "correct the path in this camera's `url`" in (trouble.hub.camera("no-such-path").error or "")


@pytest.mark.parametrize("camera", ["http-redirect", "snapshot-redirect"])
def test_a_redirect_to_another_host_is_not_followed(trouble: Trouble, camera: str) -> None:
    trouble.hub.wait_until(lambda: trouble.hub.camera(camera).error is not None)
    assert not [request for request in trouble.target.requests if request != "GET /snapshot.jpg"]
    assert trouble.hub.camera(camera).total("frames_sent_total") == 0


def test_an_rtsp_redirect_to_another_host_is_not_followed(trouble: Trouble) -> None:
    trouble.hub.wait_until(lambda: trouble.hub.camera("rtsp-redirect").error is not None)
    assert trouble.rtsp_target.heard == []


def test_a_camera_that_accepts_and_says_nothing_is_stalled(trouble: Trouble) -> None:
    trouble.hub.wait_for_state("silent", "stalled", 20)


def test_what_is_no_video_is_said_to_be_none(trouble: Trouble) -> None:
    trouble.hub.wait_until(lambda: trouble.hub.camera("no-video").error is not None)
    assert trouble.hub.camera("no-video").restarts == 0


def test_the_healthy_camera_has_noticed_nothing(trouble: Trouble) -> None:
    trouble.hub.wait_for_results("healthy", 40)
    times = [message.at for message in trouble.recorder.received("healthy")]
    assert max(later - earlier for earlier, later in pairwise(times[2:])) < 1.5
    assert trouble.hub.states("healthy") in (["connecting", "streaming"], ["streaming"])


def test_no_camera_costs_its_process(trouble: Trouble) -> None:
    began = time.monotonic()
    names = [name.partition(":")[2] for name in trouble.hub.members() if name.startswith("camera:")]
    assert {trouble.hub.camera(name).restarts for name in names} == {0}
    assert trouble.hub.stop() == 0
    assert time.monotonic() - began < 10
