"""Cases 15 to 18: the hub detects cameras that disconnect, freeze or never answer, and reconnects in time."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import clips
from tests.support.patience import PATIENCE_S, is_on_time
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cable import Cable
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

pytestmark = pytest.mark.fault

CAMERA: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
GOP_2S: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=2.0, seconds=4)
STALL_S: Final = 2.0
OUTAGE_S: Final = 60.0 if os.environ.get("NVISION_HUB_FULL_FAULTS") else 4.0


@pytest.mark.long
@pytest.mark.slow
def test_a_rebooted_camera_streams_within_ten_seconds(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching]
) -> None:
    camera = gst_camera(GOP_2S)
    watching = watch(camera.url(), fps=5)
    watching.wait_for(5)
    killed = time.monotonic()
    camera.kill()
    noticed, sentence = watching.wait_for_state("unreachable")
    assert is_on_time(noticed - killed, STALL_S + 2)
    watching.watch_for(OUTAGE_S)
    camera.start()
    returned = time.monotonic()
    watching.wait_for(1)
    back_s = watching.frames[-1].at - returned
    assert is_on_time(back_s, 10)
    watching.wait_until(lambda: watching.capture.error is None)
    assert "127.0.0.1" in sentence
    measured(
        15,
        "camera reboots",
        injected=f"RTSP server killed (-9), restarted after {OUTAGE_S:.0f} s",
        target="frames within 10 s of its return",
        measured=f"detected after {noticed - killed:.1f} s, frames {back_s:.1f} s after its return",
    )


@pytest.mark.long
@pytest.mark.slow
def test_a_frozen_camera_is_detected(gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching]) -> None:
    camera = gst_camera(CAMERA)
    watching = watch(camera.url(), fps=5)
    watching.wait_for(5)
    frozen = time.monotonic()
    camera.suspend()
    noticed, sentence = watching.wait_for_state("stalled")
    assert noticed - frozen > STALL_S - 0.5
    assert is_on_time(noticed - frozen, STALL_S + 1)
    assert "has sent nothing for 2 s; check the camera and the network connection to it" in sentence
    camera.resume()
    thawed = time.monotonic()
    watching.wait_for(3)
    assert is_on_time(watching.frames[-1].at - thawed, 15)
    measured(
        16,
        "camera freezes",
        injected="RTSP server stopped (SIGSTOP)",
        target=f"detected within stall_timeout + 2 s ({STALL_S + 2:.0f} s here)",
        measured=f"{noticed - frozen:.1f} s",
    )


class Silent:
    """Camera that sends its scripted answers and then either repeats `drips` forever or sends nothing."""

    def __init__(self, *answers: str, drips: bytes = b"") -> None:
        self._answers = answers
        self._drips = drips
        self._closed = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._socket.getsockname()[1]}/cam"
        self._callers: list[socket.socket] = []
        self.asked = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._socket.accept()
                self._callers.append(caller)
                threading.Thread(target=self._talk, args=(caller,), daemon=True).start()

    def _talk(self, caller: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for answer in self._answers:
                asked = caller.recv(65536)
                number = asked.partition(b"CSeq: ")[2].partition(b"\r\n")[0].decode()
                caller.sendall(answer.replace("NUMBER", number).encode())
            if not self._answers:
                caller.recv(65536)
            self.asked.set()
            while self._drips and not self._closed.wait(0.5):
                caller.sendall(self._drips)

    def close(self) -> None:
        self._closed.set()
        self._socket.close()
        for caller in self._callers:
            caller.close()


OPTIONS: Final = "RTSP/1.0 200 OK\r\nCSeq: NUMBER\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY\r\n\r\n"
SDP: Final = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track\r\n"
DESCRIBED: Final = (
    f"RTSP/1.0 200 OK\r\nCSeq: NUMBER\r\nContent-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n{SDP}"
)
SETUP: Final = "RTSP/1.0 200 OK\r\nCSeq: NUMBER\r\nSession: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
PLAYING: Final = "RTSP/1.0 200 OK\r\nCSeq: NUMBER\r\nSession: 1\r\n\r\n"
SILENT: Final = {
    "accepts the connection and never answers": (),
    "hangs in the middle of DESCRIBE": (OPTIONS, DESCRIBED[:90]),
    "answers PLAY and sends nothing": (OPTIONS, DESCRIBED, SETUP, PLAYING),
}
# RTCP sender report (RFC 3550, 6.4.1), interleaved on channel 1, from a camera whose encoder hangs.
REPORT: Final = b"$\x01\x00\x1c\x80\xc8\x00\x06" + bytes(24)


@pytest.fixture
def silent() -> Iterator[dict[str, Silent]]:
    cameras = {name: Silent(*answers) for name, answers in SILENT.items()}
    answers = SILENT["answers PLAY and sends nothing"]
    cameras["answers PLAY and sends only RTCP reports"] = Silent(*answers, drips=REPORT)
    yield cameras
    for camera in cameras.values():
        camera.close()


@pytest.mark.long
def test_a_camera_that_never_answers_is_detected(silent: dict[str, Silent], watch: Callable[..., Watching]) -> None:
    """Opening a stream may take 10 s, or `stall_timeout` if that is longer."""
    watched = {name: watch(camera.url, stall_timeout=10) for name, camera in silent.items()}
    for name, watching in watched.items():
        noticed, sentence = watching.wait_for_state("stalled")
        noticed_s = noticed - watching.began
        assert is_on_time(noticed_s, 12)
        assert "has sent nothing for" in sentence
        assert "check the camera and the network connection to it" in sentence
        measured(
            17,
            f"camera {name}",
            injected="scripted TCP server",
            target="detected within stall_timeout + 2 s (12 s here)",
            measured=f"{noticed_s:.1f} s",
        )


@pytest.mark.slow
def test_a_stop_while_cameras_do_not_answer_is_on_time(
    silent: dict[str, Silent], start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    urls = [camera.url for camera in silent.values()]
    hub = start_hub([{"id": f"silent{number}", "url": url} for number, url in enumerate(urls)], recorder())
    for camera in silent.values():
        assert camera.asked.wait(PATIENCE_S)
    began = time.monotonic()
    assert hub.stop() == 0
    stopped_s = time.monotonic() - began
    assert is_on_time(stopped_s, 10)
    measured(
        17,
        "stop while cameras do not answer",
        injected="SIGTERM during connect, DESCRIBE and the wait for frames",
        target="exit within 10 s",
        measured=f"{stopped_s:.1f} s",
    )


@pytest.mark.long
@pytest.mark.slow
def test_a_pulled_cable_is_detected(
    cable: Cable, gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching]
) -> None:
    camera = gst_camera(CAMERA, address=cable.address, namespace=cable.namespace)
    watching = watch(camera.url(), fps=5)
    watching.wait_for(5)
    pulled = time.monotonic()
    cable.pull()
    noticed, _ = watching.wait_for_state("stalled")
    assert is_on_time(noticed - pulled, STALL_S + 2)
    watching.watch_for(1.0)
    cable.plug_in()
    plugged = time.monotonic()
    watching.wait_for(3)
    back_s = watching.frames[-3].at - plugged
    measured(
        18,
        "cable pulled",
        injected="link down at the camera's end of a veth pair, no RST",
        target=f"detected within stall_timeout + 2 s ({STALL_S + 2:.0f} s here)",
        measured=f"{noticed - pulled:.1f} s; frames {back_s:.1f} s after the link is up again",
    )
