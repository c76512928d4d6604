"""RTP over UDP: which packets reach FFmpeg, and what the hub sends so that firewalls and cameras keep the stream."""

from __future__ import annotations

import contextlib
import socket
import threading
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext

from nvision_hub.config.models import Camera
from nvision_hub.media.sources import CameraTrust, SourceError, open_source
from nvision_hub.media.sources.rtp_media import Interleaved
from nvision_hub.media.sources.rtsp_client import describe_stream
from nvision_hub.media.sources.rtsp_relay import RtspRelay
from tests.support.datagram_camera import SSRC, DatagramCamera, rtp
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLICE: Final = b"\x65\x88\x80"
REPORT_BYTES: Final = 8 + 28  # an empty report, and a description with a name of 16 letters


class Playing:
    """A stream that plays, and a socket in the place of FFmpeg."""

    def __init__(self, camera: DatagramCamera) -> None:
        settings = Camera.model_validate({"id": "cam", "url": camera.url})
        self.relay = RtspRelay(describe_stream(settings, CameraTrust(), timeout_s=PATIENCE_S), None)
        address = urlsplit(self.relay.opened_by_ffmpeg)
        assert address.hostname is not None
        self._ffmpeg = socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)
        self._request("OPTIONS")
        self._request("DESCRIBE")
        setup = self._request("SETUP", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")
        assert "Transport: RTP/AVP/TCP;unicast;interleaved=0-1" in setup
        self._request("PLAY", "Session: 7\r\nRange: npt=0.000-\r\n")
        self._packets = Interleaved()
        self._waiting: list[tuple[int, bytes]] = []

    def _request(self, method: str, headers: str = "") -> str:
        url = self.relay.opened_by_ffmpeg
        self._ffmpeg.sendall(f"{method} {url} RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n".encode())
        response = b""
        while b"\r\n\r\n" not in response or (method == "DESCRIBE" and b"a=control" not in response):
            response += self._ffmpeg.recv(4096)
        assert response.startswith(b"RTSP/1.0 200 OK")
        return response.decode()

    def received(self, number: int) -> list[bytes]:
        """Return the next packets that FFmpeg receives. Those of RTCP count as well."""
        while len(self._waiting) < number:
            self._waiting += self._packets.feed(self._ffmpeg.recv(65536))
        out, self._waiting = self._waiting[:number], self._waiting[number:]
        return [packet for _, packet in out]

    def wait_for_the_end(self, request: str) -> None:
        """Send a request, and wait until the relay disconnects FFmpeg."""
        self._ffmpeg.sendall(f"{request} {self.relay.opened_by_ffmpeg} RTSP/1.0\r\nCSeq: 9\r\n\r\n".encode())
        while self._ffmpeg.recv(4096):
            pass

    def close(self) -> None:
        self._ffmpeg.close()
        self.relay.close()


@pytest.fixture
def play() -> Iterator[Callable[[DatagramCamera], Playing]]:
    with contextlib.ExitStack() as opened:
        yield lambda camera: opened.enter_context(contextlib.closing(Playing(camera)))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_packets_open_firewalls_before_the_camera_sends(
    datagram_camera: Callable[..., DatagramCamera], play: Callable[..., Playing], host: str
) -> None:
    camera = datagram_camera(host=host)
    playing = play(camera)
    empty, report = camera.at_play
    assert empty[:8] == b"\x80" + bytes(7)
    assert report[:4] == b"\x80\xc9\x00\x01", "a receiver report without a block (RFC 3550, 6.4.2)"
    assert report[4:8] == empty[8:], "the same SSRC"
    assert report[8:12] == b"\x81\xca\x00\x06", "a source description (RFC 3550, 6.5)"
    assert len(report) == REPORT_BYTES
    assert playing.relay.awaits_datagrams
    assert camera.rtp.recvfrom(4096) == (empty, (host, camera.client[1], *((0, 0) if ":" in host else ()))), "repeated"
    camera.send(rtp(1, SLICE))
    assert playing.received(1) == [rtp(1, SLICE)]
    assert not playing.relay.awaits_datagrams


def test_the_camera_receives_reports_about_its_stream(
    datagram_camera: Callable[..., DatagramCamera], play: Callable[..., Playing]
) -> None:
    camera = datagram_camera()
    playing = play(camera)
    for number in (65534, 65535, 65537):
        camera.send(rtp(number, SLICE, time=number * 3600))
    assert len(playing.received(4)) == 4, "a mark takes the place of the lost packet"
    camera.send_rtcp(b"\x80\xc8\x00\x06" + SSRC + b"\0\0ntp!\0\0" + bytes(12))
    assert playing.received(1)[0][:8] == b"\x80\xc8\x00\x06" + SSRC
    while (report := camera.rtcp.recv(4096))[0] == 0x80:  # before the first packet
        pass
    assert report[:4] == b"\x81\xc9\x00\x07"
    assert report[8:20] == SSRC + bytes([64, 0, 0, 1]) + (65537).to_bytes(4), "1 of 4 packets was lost"
    assert report[24:28] == b"ntp!"


def test_packets_of_other_senders_are_discarded(
    datagram_camera: Callable[..., DatagramCamera], play: Callable[..., Playing]
) -> None:
    camera = datagram_camera()
    playing = play(camera)
    camera.send(rtp(1, SLICE))
    assert playing.received(1) == [rtp(1, SLICE)]
    with contextlib.closing(camera.bind("127.0.0.2")) as stranger, contextlib.closing(camera.bind()) as earlier:
        camera.send(rtp(2, b"\x65stranger"), stranger)
        camera.send(rtp(2, b"\x65of an earlier session"), earlier)
        camera.send(b"\0" * 100)
        camera.send_rtcp(b"\x81\xcb\x00\x01old1")  # BYE of an earlier session
        camera.send(rtp(2, SLICE))
        camera.send_rtcp(b"\x81\xcb\x00\x01" + SSRC)
        assert {*playing.received(2)} == {rtp(2, SLICE), b"\x81\xcb\x00\x01" + SSRC}


@pytest.mark.parametrize("source", ["127.0.0.2", ""])
def test_a_camera_may_send_from_another_address_or_port(
    datagram_camera: Callable[..., DatagramCamera], play: Callable[..., Playing], source: str
) -> None:
    camera = datagram_camera(source=f";source={source}" if source else "")
    playing = play(camera)
    with contextlib.closing(camera.bind(source)) as other:
        camera.send(rtp(1, SLICE), other)
        camera.send(rtp(2, SLICE), other)
        assert playing.received(2) == [rtp(1, SLICE), rtp(2, SLICE)]
        camera.send(rtp(7, SLICE, ssrc=b"cam2"))  # the announced port takes precedence
        assert playing.received(2)[1] == rtp(7, SLICE, ssrc=b"cam2")


def test_a_camera_may_begin_another_stream_with_earlier_numbers(
    datagram_camera: Callable[..., DatagramCamera], play: Callable[..., Playing]
) -> None:
    camera = datagram_camera()
    playing = play(camera)
    camera.send(rtp(400, SLICE))
    camera.send(rtp(0, SLICE, time=9000, ssrc=b"new!"))
    camera.send(rtp(1, SLICE, time=9000, ssrc=b"new!"))
    first, mark, *others = playing.received(4)
    assert [first, *others] == [rtp(400, SLICE), *(rtp(number, SLICE, time=9000, ssrc=b"new!") for number in (0, 1))]
    assert playing.relay.marks is not None
    assert playing.relay.marks.find(mark) == (False, True)
    assert playing.relay.marks.lost_share < 0.01


def test_auto_requests_udp_if_the_camera_refuses_tcp_as_a_bad_request(
    datagram_camera: Callable[..., DatagramCamera], play: Callable[..., Playing]
) -> None:
    camera = datagram_camera(refusal="400 Bad Request")
    playing = play(camera)
    assert playing.relay.transport == "udp"
    assert playing.relay.failure is None
    assert [camera.wait_for("SETUP").partition("Transport: ")[2][:11] for _ in range(2)] == [
        "RTP/AVP/TCP",
        "RTP/AVP/UDP",
    ]


def test_the_largest_datagram_arrives(
    datagram_camera: Callable[..., DatagramCamera], play: Callable[..., Playing]
) -> None:
    camera = datagram_camera()
    playing = play(camera)
    largest = rtp(1, SLICE + bytes(65507 - 12 - len(SLICE)))
    camera.send(largest)
    assert playing.received(1) == [largest]


def test_an_aborted_stream_ends_the_session(
    datagram_camera: Callable[..., DatagramCamera], play: Callable[..., Playing]
) -> None:
    camera = datagram_camera()
    playing = play(camera)
    playing.relay.abort()
    request = camera.wait_for("TEARDOWN")
    assert request.splitlines()[0] == f"TEARDOWN {camera.url} RTSP/1.0"
    assert "Session: 7" in request
    assert "Range" not in request


class LateChallengeCamera(DatagramCamera):
    """Camera that asks for a login of an unsupported kind once the stream plays."""

    @property
    def url(self) -> str:
        return super().url.replace("//", "//viewer:canary@")

    def _response(self, request: str, host: str) -> bytes:
        response = super()._response(request, host)
        if request.startswith("GET_PARAMETER"):
            return response.replace(b"200 OK", b'401 Unauthorized\r\nWWW-Authenticate: Bearer realm="camera"')
        return response


def test_a_login_of_an_unsupported_kind_ends_the_stream(play: Callable[..., Playing]) -> None:
    with contextlib.closing(LateChallengeCamera()) as camera:
        playing = play(camera)
        playing.wait_for_the_end("GET_PARAMETER")
        assert "unsupported authentication method" in str(playing.relay.failure)


def nal_units() -> Iterator[bytes]:
    """Yield the NAL units of a video of 64 x 64 pixels."""
    encoder = VideoCodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 64, "yuv420p", Fraction(1, 25)
    encoder.options = {"tune": "zerolatency", "x264-params": "keyint=5:repeat-headers=1:sliced-threads=0"}
    for number in count():
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number % 200, np.uint8))
        frame.pts = number
        for packet in encoder.encode(frame):
            yield from (unit for unit in bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit)


class Sender(threading.Thread):
    """Sends video to the client of a camera until `stopped` is set."""

    def __init__(self, camera: DatagramCamera) -> None:
        super().__init__(daemon=True)
        self._camera = camera
        self.stopped = threading.Event()

    def run(self) -> None:
        frame = 0
        self._camera.wait_for("PLAY")
        for number, unit in enumerate(nal_units()):
            is_slice = unit[0] & 31 in {1, 5}
            self._camera.send(rtp(number, unit, time=frame * 3600, last=is_slice))
            frame += is_slice
            if is_slice and self.stopped.wait(0.04):
                return


def test_requests_keep_the_session_alive(datagram_camera: Callable[..., DatagramCamera]) -> None:
    camera = datagram_camera(timeout_s=2)
    sender = Sender(camera)
    sender.start()
    with contextlib.closing(open_source(Camera.model_validate({"id": "cam", "url": camera.url}))) as source:
        for packet in source.packets():
            assert packet.size_bytes
            if not camera.requests.empty() and "Session: 7" in camera.wait_for("GET_PARAMETER"):
                break
    sender.stopped.set()
    assert "Session: 7" in camera.wait_for("TEARDOWN")


@pytest.mark.long
def test_the_error_names_firewalls_only_if_no_packet_has_arrived(
    datagram_camera: Callable[..., DatagramCamera],
) -> None:
    camera = datagram_camera()
    settings = Camera.model_validate({"id": "cam", "url": camera.url, "stall_timeout": 1})

    def send_one_packet() -> None:
        camera.wait_for("PLAY")
        camera.send(rtp(1, b"\x01"))

    threading.Thread(target=send_one_packet, daemon=True).start()
    with pytest.raises(SourceError, match="has sent nothing") as failure:
        open_source(settings)
    assert "firewalls" not in str(failure.value)
    camera.wait_for("TEARDOWN")
