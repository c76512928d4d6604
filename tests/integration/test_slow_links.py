"""Cameras behind a link with a round trip of three seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support import clips

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_camera import HttpCamera
    from tests.support.rtsp import GstCamera
    from tests.support.slow_link import SlowLink
    from tests.support.watching import Watching

pytestmark = pytest.mark.long

CAMERA: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
ROUND_TRIP_S: Final = 3.0


@pytest.mark.parametrize("user", [None, "viewer"])
def test_rtsp_cameras_connect(
    gst_camera: Callable[..., GstCamera],
    slow_link: Callable[..., SlowLink],
    watch: Callable[..., Watching],
    user: str | None,
) -> None:
    link = slow_link(gst_camera(CAMERA, user=user, password="right").port, round_trip_s=ROUND_TRIP_S)
    login = {} if user is None else {"username": user, "password": "right"}
    watching = watch(f"rtsp://127.0.0.1:{link.port}/cam", stall_timeout=10, transport="tcp", **login)
    watching.wait_for(3)
    assert {state for _, state, _ in watching.states} <= {"connecting", "streaming"}


@pytest.mark.parametrize("path", ["/stream.mjpg", "/snapshot.jpg"])
def test_http_cameras_connect(
    http_camera: Callable[..., HttpCamera],
    slow_link: Callable[..., SlowLink],
    watch: Callable[..., Watching],
    path: str,
) -> None:
    camera = http_camera(user="viewer", password="right")
    link = slow_link(camera.port, round_trip_s=ROUND_TRIP_S)
    camera.redirects["/video"] = path
    scheme = "snapshot+http" if path == "/snapshot.jpg" else "http"
    watching = watch(
        f"{scheme}://127.0.0.1:{link.port}/video", stall_timeout=10, username="viewer", password="right", fps=0.5
    )
    watching.wait_for(2)
    assert {state for _, state, _ in watching.states} <= {"connecting", "streaming"}
