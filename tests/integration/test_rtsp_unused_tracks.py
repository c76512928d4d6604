"""Streams of GStreamer's server that all clients share: the hub, which reads only video, keeps no client out."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import av
import pytest

from tests.support import clips

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

pytestmark = [
    pytest.mark.long,
    pytest.mark.peer("RTSP camera", "GStreamer RTSP server", "debian:gir1.2-gst-rtsp-server-1.0"),
]

CAMERA: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
PACKETS: Final = 100  # more than a server sends before PLAY


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("second_track", ["audio", "metadata"])
def test_other_clients_can_join_a_shared_stream(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching], second_track: str, transport: str
) -> None:
    camera = gst_camera(CAMERA, second_track=second_track, user="viewer", password="pa ss")
    watching = watch(camera.url(), transport=transport)
    watching.wait_for(3)
    for _ in range(2):  # one after another, because the server can abort if two clients join at once
        with av.open(camera.url(), options={"rtsp_transport": "tcp"}, timeout=(10, 10)) as second:
            received = [packet.stream.type for packet in islice(second.demux(), PACKETS)]
        assert set(received) == {"video", {"audio": "audio", "metadata": "data"}[second_track]}
    watching.wait_for(3)
    assert watching.capture.trust.transport == transport
    assert {state for _, state, _ in watching.states} <= {"connecting", "streaming"}
