"""Media of one RTSP connection on its way to FFmpeg: packets on the connection itself, or datagrams.

FFmpeg always receives packets on its connection to the relay. The hub thus sees each RTP packet, and knows which ones
are missing (`rtp_loss.py`).
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from typing import TYPE_CHECKING, Final

from nvision_hub.media.sources.rtp_loss import LossMarker, LossMarks, ReorderBuffer

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOLLAR: Final = b"$"
_HEAD_BYTES: Final = 4
_MAX_DATAGRAM_BYTES: Final = 2**16
_MAX_BURST: Final = 256  # datagrams read at once
_RECEIVE_BUFFER_BYTES: Final = 2**21  # a keyframe of a 4K camera arrives in one burst
_PORT_ATTEMPTS: Final = 32
_REORDER_POLL_MS: Final = 20
_RTPMAP: Final = re.compile(rb"^a=rtpmap:(\d{1,3}) (H26[45])/", re.MULTILINE | re.IGNORECASE)
_SERVER_PORTS: Final = re.compile(r"(?i)server_port=(\d{1,5})(?:-(\d{1,5}))?")
# FFmpeg and other clients also send empty packets, so that firewalls between them and the camera let its packets pass.
_EMPTY_RTP: Final = b"\x80" + bytes(11)
_EMPTY_RTCP: Final = b"\x80\xc9\x00\x01" + bytes(4)


class Interleaved:
    """Splits media packets on an RTSP connection (RFC 2326, 10.12)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield each complete packet and its channel. `data` are media packets or parts of them, as in `RtspReader`."""
        data, position = self._rest + data if self._rest else data, 0
        while position + _HEAD_BYTES <= len(data):
            end = position + _HEAD_BYTES + int.from_bytes(data[position + 2 : position + _HEAD_BYTES])
            if end > len(data):
                break
            yield data[position + 1], data[position + _HEAD_BYTES : end]
            position = end
        self._rest = data[position:]


def _interleaved(channel: int, packet: bytes) -> bytes:
    return _DOLLAR + bytes([channel]) + len(packet).to_bytes(2) + packet


class DatagramTrack:
    """Two sockets that receive one track over UDP. `channel` is the number by which FFmpeg knows the track's RTP."""

    def __init__(self, camera: socket.socket, channel: int) -> None:
        self.channel = channel
        self._host: str = camera.getpeername()[0]
        self._ports: tuple[int, int] | None = None  # of the camera
        self._order = ReorderBuffer()
        self.rtp, self.rtcp = _port_pair(camera.family, camera.getsockname()[0])

    @property
    def client_ports(self) -> str:
        return f"{self.rtp.getsockname()[1]}-{self.rtcp.getsockname()[1]}"

    @property
    def is_waiting(self) -> bool:
        """Whether packets wait for an earlier one."""
        return self._order.is_waiting

    def on_setup(self, transport: str) -> None:
        """Learn the camera's ports from its response to SETUP."""
        if found := _SERVER_PORTS.search(transport):
            first = int(found[1])
            self._ports = first, int(found[2] or first + 1)

    def open_firewalls(self) -> None:
        """Send an empty packet to each port of the camera."""
        for number, packet in enumerate((_EMPTY_RTP, _EMPTY_RTCP)):
            self._send(number, packet)

    def send_rtcp(self, packet: bytes) -> None:
        self._send(1, packet)

    def _send(self, number: int, packet: bytes) -> None:
        if self._ports is not None:
            with contextlib.suppress(OSError, OverflowError):  # as if the network had lost the packet
                (self.rtp, self.rtcp)[number].sendto(packet, (self._host, self._ports[number]))

    def receive(self, source: socket.socket) -> Iterator[tuple[int, bytes]]:
        """Yield the packets that have arrived at one of the sockets, in order, each with its channel."""
        for _ in range(_MAX_BURST):
            try:
                data, sender = source.recvfrom(_MAX_DATAGRAM_BYTES)
            except OSError:  # nothing more has arrived, or the camera has closed a port
                return
            if sender[0] != self._host:
                continue  # another machine could otherwise insert frames
            if source is self.rtcp:
                yield self.channel + 1, data
            else:
                yield from ((self.channel, packet) for packet in self._order.push(data, time.monotonic()))

    def overdue(self) -> Iterator[tuple[int, bytes]]:
        """Yield the packets that have waited long enough for an earlier one."""
        yield from ((self.channel, packet) for packet in self._order.release(time.monotonic()))

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


class MediaPath:
    """Packets from the camera to FFmpeg, with marks in place of lost packets. `description` is the stream's SDP."""

    def __init__(self, description: bytes) -> None:
        self.marks = LossMarks()
        self.poll = select.poll()  # of the relay; contains the sockets of all tracks
        self._codecs = {int(kind): codec.decode().upper() for kind, codec in _RTPMAP.findall(description)}
        self._packets, self._rtcp = Interleaved(), Interleaved()
        self._markers: dict[int, LossMarker] = {}  # by channel
        self._tracks: list[DatagramTrack] = []  # none over TCP

    @property
    def poll_ms(self) -> int | None:
        """How long to wait for packets; None: indefinitely."""
        return _REORDER_POLL_MS if any(track.is_waiting for track in self._tracks) else None

    def open_track(self, camera: socket.socket, channel: int) -> DatagramTrack:
        """Receive a track over UDP. Raises `OSError`."""
        track = DatagramTrack(camera, channel)
        self._tracks.append(track)
        for each in (track.rtp, track.rtcp):
            self.poll.register(each, select.POLLIN)
        return track

    def close_track(self, track: DatagramTrack | None) -> None:
        if track in self._tracks:
            self._tracks.remove(track)
            for each in (track.rtp, track.rtcp):
                self.poll.unregister(each)
            track.close()

    def open_firewalls(self) -> None:
        """Send an empty packet to each of the camera's ports."""
        for track in self._tracks:
            track.open_firewalls()

    def feed(self, data: bytes) -> bytes:
        """Return what FFmpeg receives in place of media packets on the camera's connection, or parts of them."""
        if not self._codecs:
            return data
        return self._marked(self._packets.feed(data))

    def received(self, descriptor: int) -> bytes:
        """Return what FFmpeg receives in place of the datagrams that have arrived at a socket."""
        ends = ((track, end) for track in self._tracks for end in (track.rtp, track.rtcp))
        return b"".join(self._marked(track.receive(end)) for track, end in ends if end.fileno() == descriptor)

    def overdue(self) -> bytes:
        """Return what FFmpeg receives in place of the datagrams that have waited long enough for an earlier one."""
        return b"".join(self._marked(track.overdue()) for track in self._tracks)

    def from_ffmpeg(self, data: bytes) -> bytes:
        """Send FFmpeg's RTCP packets over UDP if the media comes over UDP. Return what the connection carries."""
        if not self._tracks:
            return data
        for channel, packet in self._rtcp.feed(data):
            for track in self._tracks:
                if channel == track.channel + 1:
                    track.send_rtcp(packet)
        return b""

    def _marked(self, packets: Iterator[tuple[int, bytes]]) -> bytes:
        """Return interleaved packets. Channels of RTP have even numbers."""
        out: list[bytes] = []
        for channel, packet in packets:
            if channel % 2 or not self._codecs:
                out.append(_interleaved(channel, packet))
                continue
            marker = self._markers.get(channel)
            if marker is None:
                marker = self._markers[channel] = LossMarker(self._codecs, self.marks)
            out += (_interleaved(channel, each) for each in marker.push(packet))
        return b"".join(out)

    def close(self) -> None:
        for track in self._tracks:
            track.close()


def _port_pair(family: int, host: str) -> tuple[socket.socket, socket.socket]:
    """Return sockets with an even port and the port after it (RFC 3550, 11). Raises `OSError` if none is free."""
    for _ in range(_PORT_ATTEMPTS):
        pair = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        try:
            pair[0].bind((host, 0))
            port = pair[0].getsockname()[1]
            if port % 2:
                continue
            pair[1].bind((host, port + 1))
        except OSError:
            continue
        else:
            for each in pair:
                each.setblocking(False)  # noqa: FBT003 - the standard library's signature
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            first, second = pair
            pair = []
            return first, second
        finally:
            for each in pair:
                each.close()
    raise OSError("no free pair of UDP ports")
