"""Cases 23, 24 and 27: wrong passwords lock no account, logs show no password, redirects reach no other host."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support import clips
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.http_camera import HttpCamera
    from tests.support.line import Line
    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

pytestmark = pytest.mark.fault

CAMERA: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
SPECIAL: Final = "p@ss:/?#%[] é"
LONG: Final = (SPECIAL * 5)[:64]


@pytest.mark.long
@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_a_wrong_password_causes_no_lockout(
    gst_camera: Callable[..., GstCamera], line: Callable[..., Line], watch: Callable[..., Watching], auth: str
) -> None:
    way = line(gst_camera(CAMERA, user="viewer", password="right", auth=auth).port)
    watching = watch(way.url(), username="viewer", password="wr0ng-secret")
    _, sentence = watching.wait_for_state("auth_failed")
    assert "refused the user name or password; correct `username` and `password` of this camera" in sentence
    watching.watch_for(65.0)
    tries = sum(carried for _, carried in way.requests)
    assert 1 < tries <= 3
    assert {state for _, state, _ in watching.states} == {"auth_failed"}
    measured(
        23,
        f"wrong password ({auth})",
        injected="GStreamer's RTSP server with another password",
        target="`auth_failed`; at most 3 attempts per minute",
        measured=f"{tries} requests with the password in 65 s",
    )


def test_a_wrong_password_is_sent_once_per_attempt(
    gst_camera: Callable[..., GstCamera],
    http_camera: Callable[..., HttpCamera],
    line: Callable[..., Line],
    watch: Callable[..., Watching],
) -> None:
    way = line(gst_camera(CAMERA, user="viewer", password="right").port)
    watching = watch(way.url(), username="viewer", password="wr0ng-secret")
    watching.wait_for_state("auth_failed")
    assert sum(carried for _, carried in way.requests) == 1
    camera = http_camera(user="viewer", password="right")
    watching = watch("snapshot+" + camera.url("/snapshot.jpg", credentials=False), username="viewer", password="wrong")
    watching.wait_for_state("auth_failed")
    assert sum(request == "GET /snapshot.jpg" for request in camera.requests) <= 3  # two requests carry no password


def test_a_missing_password_is_reported(
    gst_camera: Callable[..., GstCamera], line: Callable[..., Line], watch: Callable[..., Watching]
) -> None:
    way = line(gst_camera(CAMERA, user="viewer", password="right").port)
    _, sentence = watch(way.url()).wait_for_state("auth_failed")
    assert "set `username` and `password` of this camera" in sentence


@pytest.mark.slow
@pytest.mark.parametrize("auth", ["basic", "digest"])
@pytest.mark.parametrize("password", [SPECIAL, LONG], ids=["special", "64 characters"])
def test_any_password_connects_and_is_not_logged(
    gst_camera: Callable[..., GstCamera],
    watch: Callable[..., Watching],
    caplog: pytest.LogCaptureFixture,
    auth: str,
    password: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    camera = gst_camera(CAMERA, user="viewer", password=password, auth=auth)
    bare = camera.url(user="", password="").replace(":@", "")
    both = watch(camera.url()), watch(bare, username="viewer", password=password)
    for watching in both:
        watching.wait_for(2)
        watching.stop()
    camera.kill()
    watching = watch(camera.url())
    _, sentence = watching.wait_for_state("unreachable")
    shown = caplog.text + sentence + str(watching.camera)
    assert password not in shown
    assert "p%40ss" not in shown
    measured(
        24,
        f"password of {len(password)} characters, {auth}",
        injected=f"`{SPECIAL}`" + (" repeated" if len(password) > len(SPECIAL) else ""),
        target="connects; never logged",
        measured="connects from the URL and from keys; not logged",
    )


class Target:
    """Server at another address that must receive no connection."""

    def __init__(self, host: str) -> None:
        self._socket = socket.create_server((host, 0))
        self.place = f"{host}:{self._socket.getsockname()[1]}"
        self.connections = 0
        self.received = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._socket.accept()
                self.connections += 1
                with caller, contextlib.suppress(OSError):
                    caller.settimeout(5)
                    self.received += caller.recv(65536)

    def close(self) -> None:
        self._socket.close()


class Redirecting:
    """RTSP camera that redirects requests with the method `at`. If `guarded`, the camera first requires a password."""

    def __init__(self, at: str, *, guarded: bool) -> None:
        self._at, self._guarded = at, guarded
        self.location = ""
        self.requests: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._socket.accept()
                threading.Thread(target=self._talk, args=(caller,), daemon=True).start()

    def _talk(self, caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError), caller.makefile("rb") as stream:
            while line := stream.readline():
                method = line.split()[0].decode()
                headers = "".join(iter(lambda: stream.readline().decode().strip("\r\n") + "\n", "\n"))
                number = headers.partition("CSeq: ")[2].partition("\n")[0]
                self.requests.append(method)
                if self._guarded and "Authorization:" not in headers:
                    answer = '401 Unauthorized\r\nWWW-Authenticate: Basic realm="camera"'
                elif method == self._at:
                    answer = f"302 Found\r\nLocation: {self.location}"
                else:
                    answer = "200 OK\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY"
                caller.sendall(f"RTSP/1.0 {answer}\r\nCSeq: {number}\r\n\r\n".encode())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    opened: list[Any] = []

    def keep(server: Any) -> Any:
        opened.append(server)
        return server

    yield keep
    for server in opened:
        server.close()


REDIRECTS: Final = list(itertools.product(["OPTIONS", "DESCRIBE"], [False, True], ["127.0.0.1", "127.0.0.2"]))


@pytest.mark.parametrize(("at", "guarded", "host"), REDIRECTS)
def test_no_byte_is_sent_to_the_target_of_an_rtsp_redirect(
    closing: Callable[[Any], Any], watch: Callable[..., Watching], at: str, host: str, *, guarded: bool
) -> None:
    target = closing(Target(host))
    camera = closing(Redirecting(at, guarded=guarded))
    camera.location = f"rtsp://{target.place}/cam"
    began = time.monotonic()
    watching = watch(f"rtsp://127.0.0.1:{camera.port}/cam", username="viewer", password="secret-canary")
    given_up, sentence = watching.wait_for_state("not_found")
    assert "redirects to another address, and the hub does not follow this redirect" in sentence
    assert "set its new address as this camera's `url`" in sentence
    assert camera.requests[-1] == at
    watching.stop()
    assert (target.connections, target.received) == (0, b"")
    measured(
        27,
        f"redirect to {'another host' if host != '127.0.0.1' else 'another port'}, at {at}"
        f"{' with a password' if guarded else ''}",
        injected="RTSP server that answers 302; a listener counts connections",
        target="connection closed within 10 s; no byte to the target",
        measured=f"{given_up - began:.2f} s; no connection made",
    )


def test_a_redirect_loop_is_closed(closing: Callable[[Any], Any], watch: Callable[..., Watching]) -> None:
    camera = closing(Redirecting("DESCRIBE", guarded=False))
    camera.location = f"rtsp://127.0.0.1:{camera.port}/again"
    watching = watch(f"rtsp://127.0.0.1:{camera.port}/cam")
    given_up, sentence = watching.wait_for_state("not_found")
    assert "redirects too often; set the stream's final path in this camera's `url`" in sentence
    asked = camera.requests.count("DESCRIBE")
    assert asked <= 4
    measured(
        27,
        "redirect loop",
        injected="RTSP server that answers every DESCRIBE with 302 to itself",
        target="connection closed within 10 s",
        measured=f"{given_up - watching.began:.2f} s, after {asked} requests",
    )


def test_a_redirect_on_the_camera_itself_is_followed(
    gst_camera: Callable[..., GstCamera], line: Callable[..., Line], watch: Callable[..., Watching]
) -> None:
    """A camera that has renamed its streams redirects to another path on the same host and port."""
    way = line(gst_camera({"/new": CAMERA}).port)
    way.redirects["/old"] = "/new"
    watch(way.url("/old")).wait_for(2)


@pytest.mark.parametrize("kind", ["", "snapshot+"])
def test_no_byte_is_sent_to_the_target_of_an_http_redirect(
    closing: Callable[[Any], Any],
    http_camera: Callable[..., HttpCamera],
    watch: Callable[..., Watching],
    kind: str,
) -> None:
    target = closing(Target("127.0.0.2"))
    camera = http_camera()
    camera.redirect_to = f"http://{target.place}/stream.mjpg"
    watching = watch(kind + camera.url())
    given_up, sentence = watching.wait_for_state("not_found")
    assert "redirects to another address, and the hub does not follow this redirect" in sentence
    watching.stop()
    assert target.connections == 0
    measured(
        27,
        f"redirect of {kind or 'MJPEG over '}http",
        injected="HTTP server that answers 302; a listener counts connections",
        target="connection closed within 10 s; no byte to the target",
        measured=f"{given_up - watching.began:.2f} s; no connection made",
    )
