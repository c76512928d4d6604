"""Transports of RTSP media with GStreamer's server: `transport: auto`, and cameras that refuse a transport (461)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import clips
from tests.support.line import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

pytestmark = pytest.mark.peer("RTSP camera", "GStreamer RTSP server", "debian:gir1.2-gst-rtsp-server-1.0")

CAMERA: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)


@pytest.fixture
def recorded() -> Iterator[Callable[[GstCamera], Line]]:
    """Put a relay that records the requests in front of a camera."""
    lines: list[Line] = []

    def start(camera: GstCamera) -> Line:
        lines.append(Line(port_behind=camera.port))
        return lines[-1]

    yield start
    for each in lines:
        each.close()


@pytest.mark.parametrize("user", [None, "viewer"])
@pytest.mark.parametrize("accepts", ["TCP", "UDP", None])
def test_auto_finds_the_transport_that_the_camera_accepts(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching], accepts: str | None, user: str | None
) -> None:
    watching = watch(gst_camera(CAMERA, accepts=accepts, user=user, password="pa ss").url())
    watching.wait_for(3)
    assert watching.capture.trust.transport == ("udp" if accepts == "UDP" else "tcp")
    assert {state for _, state, _ in watching.states} <= {"connecting", "streaming"}


def test_auto_remembers_the_transport(
    gst_camera: Callable[..., GstCamera], recorded: Callable[[GstCamera], Line], watch: Callable[..., Watching]
) -> None:
    line = recorded(gst_camera(CAMERA, accepts="UDP"))
    watching = watch(line.url())
    watching.wait_for(1)
    assert [method for method, _ in line.requests].count("SETUP") == 2
    line.requests.clear()
    watching.control.pause()
    watching.wait_for_state("paused")
    watching.control.resume()
    watching.wait_for(1)
    watching.stop()
    assert [method for method, _ in line.requests].count("SETUP") == 1


@pytest.mark.parametrize(
    ("setting", "accepts", "words"),
    [
        ("tcp", "UDP", "refuses RTP over TCP (461); set `transport: udp` of this camera, or `transport: auto`"),
        ("udp", "TCP", "refuses RTP over UDP (461); set `transport: tcp` of this camera, or `transport: auto`"),
        ("auto", "UDP_MCAST", "refuses unicast over TCP and over UDP (461), so it probably sends only multicast"),
        ("auto", "SRTP", "sends only encrypted media (SRTP), which the hub cannot read; turn SRTP off in the camera"),
    ],
)
def test_the_error_names_the_refused_transport(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching], setting: str, accepts: str, words: str
) -> None:
    watching = watch(gst_camera(CAMERA, accepts=accepts).url(), transport=setting)
    _, sentence = watching.wait_for_state("unsupported")
    assert words in sentence


@pytest.mark.long
def test_the_error_names_a_firewall_that_blocks_udp(
    gst_camera: Callable[..., GstCamera], recorded: Callable[[GstCamera], Line], watch: Callable[..., Watching]
) -> None:
    line = recorded(gst_camera(CAMERA, accepts="UDP"))
    line.alter = lambda *_: None
    watching = watch(line.url())
    _, sentence = watching.wait_for_state("stalled")
    assert re.search(
        r"has sent no packet over UDP for \d+ s; let UDP packets of the camera pass all firewalls", sentence
    )
    line.alter = lambda packet, _: packet
    watching.wait_for(1)
