"""The read timeout ends a read that waits too long."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from nvision_hub.config.models import Camera
from nvision_hub.media.sources import SourceError, open_source
from nvision_hub.media.sources.read_timeout import ReadTimeout
from tests.support import clips
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_camera import HttpCamera
    from tests.support.rtsp import GstCamera

CLIP = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
LIMIT_S = 2.0


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_frozen_camera_ends_the_read(gst_camera: Callable[..., GstCamera], transport: str) -> None:
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
        assert time.monotonic() - frozen > LIMIT_S - 0.1  # the last frame may be 0.1 s older
    server.resume()


def test_a_closed_stream_frees_its_memory_immediately(gst_camera: Callable[..., GstCamera]) -> None:
    camera = Camera.model_validate({"id": "cam", "url": gst_camera(CLIP).url(), "fps": 5})
    source = open_source(camera)
    assert len([source.decode(packet) for packet in islice(source.packets(), 10)]) == 10
    known = weakref.ref(source)
    source.close()
    del source
    assert known() is None, "the read timer's thread or a reference cycle still holds it"


def test_a_frozen_mjpeg_camera_ends_the_read(http_camera: Callable[..., HttpCamera]) -> None:
    server = http_camera()
    camera = Camera.model_validate({"id": "cam", "url": server.url(), "stall_timeout": LIMIT_S, "fps": 5})
    with contextlib.closing(open_source(camera)) as source:
        packets = source.packets()
        assert len(list(islice(packets, 10))) == 10
        server.frozen.set()
        with pytest.raises(SourceError, match="has sent nothing for 2 s"):
            list(packets)
        server.frozen.clear()


def test_only_a_blocked_read_times_out() -> None:
    timed_out = threading.Event()
    timeout = ReadTimeout(0.2, timed_out.set)
    for _ in range(5):
        with timeout.watching():
            assert not timed_out.wait(0.1)
    assert not timed_out.wait(0.5), "no read is in progress"
    assert not timeout.expired
    with timeout.watching():
        assert timed_out.wait(PATIENCE_S)
    expired: bool = timeout.expired
    assert expired
    timeout.close()
