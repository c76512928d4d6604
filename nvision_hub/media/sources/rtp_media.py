"""Media of one RTSP connection on the way to FFmpeg: packets on the connection itself, or datagrams.

FFmpeg always receives packets on its connection to the relay. The hub thus sees each RTP packet, and knows which
packets are missing (`rtp_loss.py`).
"""

from __future__ import annotations

import re
import select
from typing import TYPE_CHECKING, Final

from nvision_hub.media.sources.rtp_datagrams import DatagramTrack
from nvision_hub.media.sources.rtp_loss import LossMarker, LossMarks

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

_DOLLAR: Final = b"$"
_HEAD_BYTES: Final = 4
_REORDER_POLL_MS: Final = 20
_REPORT_POLL_MS: Final = 1000
_RTPMAP: Final = re.compile(rb"^a=rtpmap:(\d{1,3}) (H26[45])/", re.MULTILINE | re.IGNORECASE)


class Interleaved:
    """Splitter of media packets on an RTSP connection (RFC 2326, 10.12)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield each complete packet and its channel. `data` is the media data that `RtspReader` yields."""
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


class MediaPath:
    """Path of packets from the camera to FFmpeg, with marks in place of lost packets.

    `description` is the stream's SDP.
    """

    def __init__(self, description: bytes) -> None:
        self.marks = LossMarks()
        self.poll = select.poll()  # the relay polls the sockets of all tracks with this object
        self._codecs = {int(kind): codec.decode().upper() for kind, codec in _RTPMAP.findall(description)}
        self._packets = Interleaved()
        self._markers: dict[int, LossMarker] = {}  # by channel
        self._tracks: list[DatagramTrack] = []  # empty over TCP

    @property
    def poll_ms(self) -> int | None:
        """How long to wait for packets before the next `on_tick`, in milliseconds; None means indefinitely."""
        if any(track.is_waiting for track in self._tracks):
            return _REORDER_POLL_MS
        return _REPORT_POLL_MS if self._tracks else None

    @property
    def has_datagrams(self) -> bool:
        """Whether an RTP packet has arrived over UDP."""
        return any(track.has_media for track in self._tracks)

    def open_track(self, camera: socket.socket, channel: int) -> DatagramTrack:
        """Receive a track over UDP. Raises `SourceError` or `OSError` (see `DatagramTrack`)."""
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
        """Send an empty packet to each of the camera's ports. After that, send reports."""
        for track in self._tracks:
            track.open_firewalls()

    def feed(self, data: bytes) -> bytes:
        """Return the bytes for FFmpeg in place of media packets, or parts of them, from the camera's connection."""
        if not self._codecs:
            return data
        return self._marked(self._packets.feed(data))

    def received(self, descriptor: int) -> bytes:
        """Return the bytes for FFmpeg in place of the datagrams that have arrived at a socket."""
        ends = ((track, end) for track in self._tracks for end in (track.rtp, track.rtcp))
        return b"".join(self._marked(track.receive(end)) for track, end in ends if end.fileno() == descriptor)

    def on_tick(self) -> bytes:
        """Send due reports. Return the bytes for FFmpeg in place of datagrams that have waited long enough."""
        return b"".join(self._marked(track.on_tick()) for track in self._tracks)

    def _marked(self, packets: Iterator[tuple[int, bytes]]) -> bytes:
        """Return interleaved packets. RTP channels have even numbers."""
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
