"""A read that lasts too long is ended, whatever it waits on, and no connection but that one."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from nvision_hub.config import Camera
from tests.support import clips
from workers.camera.source import SourceError, open_source
from workers.camera.source.read_limit import ReadLimit, open_sockets, shut_down

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_camera import HttpCamera
    from tests.support.rtsp import GstCamera

CLIP = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
LIMIT_S = 2.0


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_that_freezes_ends_the_read(gst_camera: Callable[..., GstCamera], transport: str) -> None:
    server = gst_camera(CLIP)
    camera = Camera.model_validate(
        {"id": "cam", "url": server.url(), "transport": transport, "stall_timeout": LIMIT_S, "fps": 5}
    )
    with contextlib.closing(open_source(camera)) as source:
        packets = source.packets()
        assert len(list(islice(packets, 10))) == 10
        frozen = time.monotonic()
        server.suspend()
        with pytest.raises(SourceError, match="has sent nothing for 2 s") as ended:
            list(packets)
        assert ended.value.state == "stalled"
        assert time.monotonic() - frozen > LIMIT_S - 0.1  # the last picture may have come that long before
    server.resume()


def test_a_stream_that_is_closed_gives_its_memory_back_at_once(gst_camera: Callable[..., GstCamera]) -> None:
    camera = Camera.model_validate({"id": "cam", "url": gst_camera(CLIP).url(), "fps": 5})
    source = open_source(camera)
    assert len([source.decode(packet) for packet in islice(source.packets(), 10)]) == 10
    known = weakref.ref(source)
    source.close()
    del source
    assert known() is None, "the thread that limits its reads, or a cycle, still holds it"


def test_an_mjpeg_camera_too(http_camera: Callable[..., HttpCamera]) -> None:
    server = http_camera()
    camera = Camera.model_validate({"id": "cam", "url": server.url(), "stall_timeout": LIMIT_S, "fps": 5})
    with contextlib.closing(open_source(camera)) as source:
        packets = source.packets()
        assert len(list(islice(packets, 10))) == 10
        server.frozen.set()
        with pytest.raises(SourceError, match="has sent nothing for 2 s"):
            list(packets)
        server.frozen.clear()


def test_only_what_waits_is_cut_and_only_while_it_waits() -> None:
    cut = threading.Event()
    limit = ReadLimit(0.2, cut.set)
    for _ in range(5):
        with limit.watching():
            assert not cut.wait(0.1)
    assert not cut.wait(0.5), "nobody reads"
    assert not limit.passed
    with limit.watching():
        assert cut.wait(20)
    passed: bool = limit.passed
    assert passed
    limit.close()


def test_other_connections_live_on() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as camera,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(other.getsockname()) as before,
    ):
        known = open_sockets()
        theirs = socket.create_connection(camera.getsockname())
        beside = socket.create_connection(other.getsockname())
        new = open_sockets() - known
        closed = socket.create_connection(camera.getsockname())
        reused = {*new, (closed.fileno(), 1)}  # a number that has become another's
        shut_down(reused, camera.getsockname()[1])
        assert theirs.recv(1) == b""
        for living in (before, beside, closed):
            living.settimeout(0)
            with pytest.raises(BlockingIOError):
                living.recv(1)
            living.close()
        theirs.close()
        shut_down(new, camera.getsockname()[1])  # all of them gone
