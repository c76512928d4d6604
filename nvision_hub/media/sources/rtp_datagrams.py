"""One track of RTP over UDP: two sockets, the order of the packets, and the packets to the camera."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import time
from typing import TYPE_CHECKING, Final

from nvision_hub.media.sources import errors
from nvision_hub.media.sources.rtcp_reports import ReceiverReports
from nvision_hub.media.sources.rtp_loss import ReorderBuffer, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_DATAGRAM_BYTES: Final = 2**16
_MAX_BURST: Final = 256  # maximum number of datagrams to read at once
_RECEIVE_BUFFER_BYTES: Final = 2**21  # a keyframe of a 4K camera arrives in one burst
_PORT_ATTEMPTS: Final = 32
_FIRST_REPORT_S: Final = 1.0  # time after PLAY; early, because the network may have lost the first empty packets
_REPORT_INTERVAL_S: Final = 5.0  # the shortest interval that RFC 3550, 6.2 recommends
_SENDER_TIMEOUT_S: Final = 1.0
_SERVER_PORTS: Final = re.compile(r"(?i)server_port=(\d{1,5})(?:-(\d{1,5}))?")
_SOURCE: Final = re.compile(r"(?i)[;,]\s*source=([0-9a-f.:]+)")


class DatagramTrack:
    """Two sockets that receive one track over UDP. `channel` is the FFmpeg channel for the track's RTP packets.

    Raises `SourceError` if this machine has no free UDP ports, and `OSError` if the camera has disconnected.
    """

    def __init__(self, camera: socket.socket, channel: int) -> None:
        self.channel = channel
        self.has_media = False  # whether an RTP packet has arrived
        self._peer: tuple[str, int, *tuple[int, ...]] = camera.getpeername()
        self._hosts = {self._peer[0]}
        self._ports: tuple[int, int] | None = None  # RTP and RTCP ports of the camera
        self._sender: tuple[str, int] | None = None  # host and port from which the last accepted RTP packet came
        self._heard = 0.0  # arrival time of the last accepted RTP packet
        self._order = ReorderBuffer()
        self._reports = ReceiverReports()
        self._report_at = float("inf")
        host = camera.getsockname()
        try:
            self.rtp, self.rtcp = port_pair(camera.family, host)
        except OSError as error:
            raise errors.no_udp_ports(error) from error
        for each in (self.rtp, self.rtcp):
            each.setblocking(False)  # noqa: FBT003 - the standard library's signature
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)

    @property
    def client_ports(self) -> str:
        return f"{self.rtp.getsockname()[1]}-{self.rtcp.getsockname()[1]}"

    @property
    def is_waiting(self) -> bool:
        """Whether packets are waiting for an earlier packet."""
        return self._order.is_waiting

    def on_setup(self, transport: str) -> None:
        """Read the camera's ports and source address from the Transport header of the response to SETUP."""
        if found := _SERVER_PORTS.search(transport):
            first = int(found[1])
            self._ports = first, int(found[2] or first + 1)
        if found := _SOURCE.search(transport):  # a camera with two network interfaces may send from its other address
            self._hosts.add(found[1])

    def open_firewalls(self) -> None:
        """Send an empty packet and a report. Firewalls on the path then let the camera's packets pass.

        FFmpeg and GStreamer also send these packets before PLAY. Until the first media packet arrives, the hub sends an
        empty packet with each report, because the network may lose an empty packet.
        """
        now = time.monotonic()
        if not self.has_media:
            self._send(0, self._reports.empty_rtp())
        self._send(1, self._reports.report(now))
        self._report_at = now + _FIRST_REPORT_S

    def _send(self, number: int, packet: bytes) -> None:
        """Send a packet to the camera's host, and never to another host in the camera's response."""
        if self._ports is not None:
            # A failure has the same effect as packet loss in the network.
            with contextlib.suppress(OSError, OverflowError):
                address = (self._peer[0], self._ports[number], *self._peer[2:])
                (self.rtp, self.rtcp)[number].sendto(packet, address)

    def receive(self, source: socket.socket) -> Iterator[tuple[int, bytes]]:
        """Yield the packets that have arrived at one of the sockets in order, each with its channel."""
        for _ in range(_MAX_BURST):
            try:
                data, sender = source.recvfrom(_MAX_DATAGRAM_BYTES)
            except OSError:  # no more data has arrived, or the camera has closed a port
                return
            now = time.monotonic()
            if sender[0] not in self._hosts:
                continue  # ignore other senders, because another machine could insert frames
            if source is self.rtcp:
                # Check the stream, because an earlier stream could end this one (BYE).
                if self._reports.on_rtcp(data, now):
                    yield self.channel + 1, data
            elif parse(data) is not None and self._is_sender(sender[:2], now):
                self.has_media = True
                if self._reports.on_rtp(data, now):
                    yield from ((self.channel, packet) for packet in self._order.restart())
                yield from ((self.channel, packet) for packet in self._order.push(data, now))

    def _is_sender(self, sender: tuple[str, int], now: float) -> bool:
        """Return whether a packet belongs to this stream.

        If the kernel has reassigned the port of an earlier stream, packets of that stream may still arrive. The hub
        always accepts packets from the port that the camera announced. Some cameras send from a different port. The hub
        therefore accepts packets from another port if it has accepted no packet for `_SENDER_TIMEOUT_S`.
        """
        is_announced = self._ports is not None and sender[1] == self._ports[0]
        if sender != self._sender and not is_announced and now - self._heard < _SENDER_TIMEOUT_S:
            return False
        self._sender, self._heard = sender, now
        return True

    def on_tick(self) -> Iterator[tuple[int, bytes]]:
        """Send a report if it is due. Yield the packets that have waited long enough for an earlier packet."""
        now = time.monotonic()
        if now >= self._report_at:
            self.open_firewalls()
            self._report_at = now + _REPORT_INTERVAL_S
        yield from ((self.channel, packet) for packet in self._order.release(now))

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


def port_pair(
    family: socket.AddressFamily, host: tuple[str, int, *tuple[int, ...]]
) -> tuple[socket.socket, socket.socket]:
    """Return sockets with an even port and the next port (RFC 3550, 11). The function ignores the port in `host`.

    No other process can bind these ports. Raises `OSError` if no pair of ports or no file descriptor is free.
    """
    for _ in range(_PORT_ATTEMPTS):
        with contextlib.ExitStack() as pair:
            first, second = (pair.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(2))
            first.bind((host[0], 0, *host[2:]))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError):  # the other port is not free
                second.bind((host[0], port ^ 1, *host[2:]))
                pair.pop_all()
                return (second, first) if port % 2 else (first, second)
    raise OSError(errno.EADDRINUSE, "no free pair of UDP ports")
