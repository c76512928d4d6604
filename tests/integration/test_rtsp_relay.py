"""The loopback relay between FFmpeg and an RTSP camera: it serves FFmpeg alone, and ends with either side."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from itertools import islice
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import av
import pytest

from nvision_hub.config.models import Camera
from nvision_hub.media.sources import CameraTrust, open_source
from nvision_hub.media.sources.rtsp_client import describe_stream
from nvision_hub.media.sources.rtsp_relay import RtspRelay
from tests.support import clips
from tests.support.patience import PATIENCE_S
from tests.support.scripted_camera import ScriptedCamera

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.rtsp import GstCamera

CLIP: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
OTHER_PROCESS: Final = """
import socket, sys
with socket.socket() as connection:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    connection.bind(("127.0.0.1", int(sys.argv[2])))
    connection.connect(("127.0.0.1", int(sys.argv[1])))
    connection.sendall(b"DESCRIBE rtsp://127.0.0.1/cam RTSP/1.0\\r\\nCSeq: 1\\r\\n\\r\\n")
    try:
        print(len(connection.recv(4096)))
    except ConnectionResetError:
        print(0)
"""


@pytest.fixture
def relay(gst_camera: Callable[..., GstCamera]) -> Iterator[RtspRelay]:
    camera = gst_camera(CLIP, user="viewer", password="canary")
    settings = {"id": "cam", "url": camera.url(user="", password=""), "username": "viewer", "password": "canary"}
    settings["url"] = settings["url"].replace(":@", "")
    client = describe_stream(Camera.model_validate(settings), CameraTrust(), timeout_s=PATIENCE_S)
    with contextlib.closing(RtspRelay(client)) as opened:
        yield opened


class SetupProtectingCamera(ScriptedCamera):
    """Camera that describes its stream to everyone, and asks for the password only afterwards."""

    def _response(self, head: bytes) -> bytes:
        if head.startswith(b"SETUP") and b"Authorization" not in head:
            return b'RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm="camera"\r\n\r\n'
        body = b"v=0\r\nm=video 0 RTP/AVP 96\r\n"
        return b"RTSP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class OneTrackCamera(ScriptedCamera):
    """Camera that accepts one track over TCP, and refuses every other track."""

    setups = 0

    def _response(self, head: bytes) -> bytes:
        if head.startswith(b"SETUP"):
            self.setups += 1
            if self.setups > 1:
                return b"RTSP/1.0 461 Unsupported Transport\r\n\r\n"
            return b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 7\r\n\r\n"
        body = b"v=0\r\nm=video 0 RTP/AVP 96\r\n"
        return b"RTSP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def relay_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "rtsp relay"}


def read_packets(relay: RtspRelay, count: int) -> None:
    with contextlib.closing(av.open(relay.opened_by_ffmpeg, "r", options={"rtsp_transport": "tcp"})) as container:
        assert len(list(islice(container.demux(), count))) == count


@pytest.mark.parametrize("imitates", [False, True])
def test_other_processes_are_disconnected(relay: RtspRelay, *, imitates: bool) -> None:
    """The other process may use the port of a connection between two sockets of this process."""
    port = str(urlsplit(relay.opened_by_ffmpeg).port)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        used = listener.getsockname()[1] if imitates else 0
        stack.enter_context(socket.create_connection(("127.0.0.1", listener.getsockname()[1])))
        stack.enter_context(listener.accept()[0])
        listener.close()
        program = [sys.executable, "-c", OTHER_PROCESS, port, str(used)]
        done = subprocess.run(program, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout == "0\n"
    read_packets(relay, 5)


def test_ffmpeg_receives_no_password(relay: RtspRelay) -> None:
    assert "canary" not in relay.opened_by_ffmpeg
    read_packets(relay, 5)


def test_a_password_sent_after_the_description_is_reported() -> None:
    with contextlib.closing(SetupProtectingCamera(status=b"")) as peer:
        url = f"rtsp://viewer:canary@127.0.0.1:{peer.port}/cam"
        client = describe_stream(Camera.model_validate({"id": "cam", "url": url}), CameraTrust(), timeout_s=PATIENCE_S)
        with contextlib.closing(RtspRelay(client)) as relay:
            assert not relay.sent_basic
            address = urlsplit(relay.opened_by_ffmpeg)
            with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S) as ffmpeg:
                ffmpeg.sendall(f"SETUP {address.geturl()} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
                assert ffmpeg.recv(4096).startswith(b"RTSP/1.0 200 OK")
            assert relay.sent_basic


def test_udp_is_not_requested_in_a_session_over_tcp() -> None:
    with contextlib.closing(OneTrackCamera(status=b"")) as peer:
        settings = Camera.model_validate({"id": "cam", "url": f"rtsp://127.0.0.1:{peer.port}/cam"})
        client = describe_stream(settings, CameraTrust(), timeout_s=PATIENCE_S)
        with contextlib.closing(RtspRelay(client)) as relay:
            address = urlsplit(relay.opened_by_ffmpeg)
            with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S) as ffmpeg:
                for number, status in ((0, b"200"), (2, b"461")):
                    transport = f"Transport: RTP/AVP/TCP;unicast;interleaved={number}-{number + 1}"
                    ffmpeg.sendall(f"SETUP {address.geturl()} RTSP/1.0\r\nCSeq: 1\r\n{transport}\r\n\r\n".encode())
                    assert ffmpeg.recv(4096).startswith(b"RTSP/1.0 " + status)
            assert (peer.setups, relay.transport) == (2, "tcp")


def test_an_unused_relay_ends(relay: RtspRelay) -> None:
    threads = relay_threads()
    assert threads
    relay.close()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_a_closed_stream_ends_its_relay(gst_camera: Callable[..., GstCamera]) -> None:
    camera = Camera.model_validate({"id": "cam", "url": gst_camera(CLIP).url()})
    earlier = relay_threads()
    with contextlib.closing(open_source(camera)) as source:
        assert len(list(islice(source.packets(), 5))) == 5
        (thread,) = relay_threads() - earlier
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
