"""Which tracks of a GStreamer server the hub sets up in order to discard them."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path
from typing import Final

import pytest

from nvision_hub.media.sources.rtsp_messages import RtspMessage
from nvision_hub.media.sources.rtsp_unused_tracks import UnusedTracks

URL: Final = "rtsp://10.0.0.5/cam"
SDP: Final = (
    b"v=0\r\na=control:*\r\nm=audio 0 RTP/AVP 0\r\na=control:stream=0\r\nm=video 0 RTP/AVP 96\r\na=control:stream=1\r\n"
    b"m=application 0 RTP/AVP 107\r\na=control:stream=2\r\n"
)


def unused(body: bytes = SDP, server: str | None = "GStreamer RTSP server", base: str | None = None) -> UnusedTracks:
    message = RtspMessage("RTSP/1.0 200 OK", (), body)
    described = message.with_header("Server", server).with_header("Content-Base", base)
    return UnusedTracks(described, URL, socket.AF_INET)


@pytest.mark.parametrize("base", [None, URL, URL + "/"])
def test_all_tracks_but_video_follow_the_channels_of_ffmpeg(base: str | None) -> None:
    tracks = unused(base=base)
    session = ("Session", "a;timeout=60")
    assert tracks.set_up("tcp", ["a;timeout=60"]) == [
        RtspMessage(f"SETUP {URL}/stream=0 RTSP/1.0", (("Transport", "RTP/AVP/TCP;unicast;interleaved=2-3"), session)),
        RtspMessage(f"SETUP {URL}/stream=2 RTSP/1.0", (("Transport", "RTP/AVP/TCP;unicast;interleaved=4-5"), session)),
    ]
    assert tracks.set_up("tcp", []) == []


def test_tracks_over_udp_have_ports_of_their_own_until_the_stream_ends() -> None:
    opened = descriptors()
    with contextlib.closing(unused()) as tracks:
        carried = [request.values("Transport")[0] for request in tracks.set_up("udp", ["a"])]
        found = [re.fullmatch(r"RTP/AVP;unicast;client_port=(\d+)-(\d+)", text) for text in carried]
        pairs = [(int(each[1]), int(each[2])) for each in found if each]
        assert len(pairs) == 2
        for pair in pairs:
            assert pair[0] % 2 == 0
            assert pair[1] == pair[0] + 1
            for port in pair:
                assert not is_free(port)
    assert descriptors() == opened


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind(("", port))
        except OSError:
            return False
        return True


@pytest.mark.parametrize("server", [None, "Camera", "my GStreamer RTSP server"])
def test_other_servers_send_only_video(server: str | None) -> None:
    assert unused(server=server).set_up("tcp", []) == []


@pytest.mark.parametrize(
    "control", [b"", b"a=control:rtsp://10.0.0.6/audio\r\n", b"a=control:a b\r\n", b"a=control:../admin\r\n"]
)
def test_a_track_without_a_name_of_its_own_is_left_out(control: bytes) -> None:
    assert unused(b"m=audio 0 RTP/AVP 0\r\n" + control).set_up("tcp", []) == []


def test_a_long_description_causes_few_requests() -> None:
    track = b"m=audio 0 RTP/AVP 0\r\na=control:stream=%d\r\n"
    tracks = unused(b"".join(track % number for number in range(1000)))
    assert len(tracks.set_up("tcp", [])) == 8
