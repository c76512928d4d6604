"""Loopback relay between FFmpeg and one RTSP camera.

FFmpeg would follow a redirect to any host and send the password with it, answer a Basic challenge from any peer, and
accept any certificate. It therefore connects only to this relay, and receives neither the camera's address nor a
password. The relay forwards messages and media over the connection that `rtsp_client.py` has opened. It adds the
credentials, and answers FFmpeg's OPTIONS and DESCRIBE with the responses that the client has checked. If the camera
redirects later, the relay ends the stream.

FFmpeg always receives the media over TCP. If necessary, the relay requests UDP from the camera (`rtsp_transport.py`,
`rtp_datagrams.py`). The relay marks the frames that lost packets have damaged (`rtp_loss.py`).

One thread per camera forwards about 50 bursts of packets per second, which takes about 0.3 % of a core.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import ssl
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from nvision_hub.media.sources import errors
from nvision_hub.media.sources.redirects import is_redirect, redirected
from nvision_hub.media.sources.rtp_media import MediaPath
from nvision_hub.media.sources.rtsp_messages import RtspMessage, RtspReader, RtspTooLongError
from nvision_hub.media.sources.rtsp_transport import REFUSES_TRANSPORT, chosen_transport, is_cause, refused, requested
from nvision_hub.media.sources.rtsp_unused_tracks import UnusedTracks
from nvision_hub.media.sources.source import SourceError

if TYPE_CHECKING:
    from nvision_hub.media.sources.rtp_datagrams import DatagramTrack
    from nvision_hub.media.sources.rtp_loss import LossMarks
    from nvision_hub.media.sources.rtsp_client import RtspClient
    from nvision_hub.media.sources.rtsp_transport import Transport

_READ_BYTES: Final = 2**16
_MAX_BURST_BYTES: Final = 2**18  # per forwarding step from a TLS connection, which returns at most 16 KiB per read
_SEND_BUFFER_BYTES: Final = 2**18  # limits the video that waits while the decoder is busy
_MAX_PENDING: Final = 64  # maximum number of requests without a response
_DRAIN_TIMEOUT_S: Final = 0.5  # time for FFmpeg's last request, TEARDOWN
_CHANNEL: Final = re.compile(r"interleaved=(\d{1,2})\b")


class _Pending(NamedTuple):
    """A request that has no response yet."""

    message: RtspMessage
    repeated: bool = False
    is_own: bool = False  # whether the relay itself sent the request, so that FFmpeg does not expect the response
    asked: RtspMessage | None = None  # FFmpeg's SETUP request, which asks for TCP
    track: DatagramTrack | None = None  # the track of a SETUP request that asks for UDP


class RtspRelay:
    """Relay for one FFmpeg connection. `failure` is the reason why the relay or the camera ended the stream."""

    def __init__(self, client: RtspClient, known: Transport | None = None) -> None:
        self.failure: SourceError | None = None
        self.transport: Transport | None = None  # the transport that the camera accepted; None before that
        self.fingerprint = client.fingerprint
        self._client = client
        self._camera = client.socket
        self._transports = requested(client.camera, known)
        described = client.responses.get("DESCRIBE", RtspMessage(""))
        self._description = described.body
        self._unused_tracks = UnusedTracks(described, client.url, self._camera.family)
        self._media = MediaPath(self._description)
        self.marks: LossMarks | None = self._media.marks
        self._pending: dict[int, _Pending] = {}
        self._played: RtspMessage | None = None  # FFmpeg's PLAY request, until FFmpeg ends the session
        self._is_playing = False  # whether the camera has accepted PLAY
        is_ipv6 = self._camera.family == socket.AF_INET6
        host = "::1" if is_ipv6 else "127.0.0.1"
        self._listener = socket.create_server((host, 0), family=self._camera.family, backlog=4)
        self._base = f"rtsp://{f'[{host}]' if is_ipv6 else host}:{self._listener.getsockname()[1]}"
        self.opened_by_ffmpeg = self._base + client.path
        self._ffmpeg: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="rtsp relay", daemon=True)
        self._thread.start()

    @property
    def sent_basic(self) -> bool:
        return self._client.auth.sent_basic

    @property
    def awaits_datagrams(self) -> bool:
        """Whether the camera has accepted PLAY over UDP but no media has arrived."""
        return self._is_playing and self.transport == "udp" and not self._media.has_datagrams

    def on_opened(self) -> None:
        """Remember the transport. A camera that refuses a transport once will refuse it again."""
        self._client.trust.transport = self.transport

    def abort(self) -> None:
        """Disconnect FFmpeg and the camera, which makes reads return. Any thread may call this method."""
        _disconnect(self._listener, self._ffmpeg)
        if self.transport != "udp":  # over UDP, the relay's thread must first end the session
            _disconnect(self._camera)

    def close(self) -> None:
        """Forward FFmpeg's last request, and then disconnect. FFmpeg must already have closed its connection."""
        _disconnect(self._listener)
        self._thread.join(_DRAIN_TIMEOUT_S)
        _disconnect(self._ffmpeg, self._camera)

    def _run(self) -> None:
        try:
            with self._listener:
                self._ffmpeg = self._accept()
            self._camera.setblocking(False)  # noqa: FBT003 - the standard library's signature
            self._forward(self._ffmpeg)
        except SourceError as error:
            self.failure = error
        except (OSError, RtspTooLongError):
            pass  # FFmpeg or the camera has disconnected, and FFmpeg's own error reports this
        finally:
            self._end_session()
            self._camera.close()
            self._unused_tracks.close()
            self._media.close()
            if self._ffmpeg is not None:
                self._ffmpeg.close()

    def _end_session(self) -> None:
        """End a UDP session that FFmpeg left open. Otherwise, the camera would send for another minute."""
        if self._played is not None and self.transport == "udp":
            end = replace(self._played, start=self._played.start.replace("PLAY", "TEARDOWN", 1))
            with contextlib.suppress(OSError, SourceError):  # the camera may request an unsupported login method
                self._camera.send(self._client.prepared(end.with_header("Range", None))[1])

    def _accept(self) -> socket.socket:
        """Return FFmpeg's connection. If another user of this machine connects first, disconnect that user."""
        while True:
            connection, peer = self._listener.accept()
            if _is_own(peer, connection.getsockname()):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
                return connection
            connection.close()

    def _forward(self, ffmpeg: socket.socket) -> None:
        requests = RtspReader()
        requests.resyncs = True
        poll = self._media.poll
        poll.register(ffmpeg, select.POLLIN)
        poll.register(self._camera, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll(self._media.poll_ms):
                if descriptor == ffmpeg.fileno():
                    data = ffmpeg.recv(_READ_BYTES)
                    if not data:
                        return
                    for part in requests.feed(data):
                        self._from_ffmpeg(part)
                elif descriptor != self._camera.fileno():
                    ffmpeg.sendall(self._media.received(descriptor))
                elif not self._forward_from_camera(ffmpeg):
                    return
            if out := self._media.on_tick():
                ffmpeg.sendall(out)

    def _forward_from_camera(self, ffmpeg: socket.socket) -> bool:
        """Forward the data that has arrived on the camera's connection. Return whether the connection is still open."""
        received = self._receive()
        if received is not None:
            self._client.received += self._client.parsed(received)
            while self._client.received:
                if out := self._from_camera(self._client.received.popleft()):
                    ffmpeg.sendall(out)
        return received != b""

    def _receive(self) -> bytes | None:
        """Return the bytes that have arrived; empty at the end of the stream; None without a complete TLS record."""
        if not isinstance(self._camera, ssl.SSLSocket):
            try:
                return self._camera.recv(_READ_BYTES)
            except BlockingIOError:
                return None
        parts: list[bytes] = []
        try:
            while sum(map(len, parts)) < _MAX_BURST_BYTES or self._camera.pending():
                part = self._camera.recv(_READ_BYTES)
                if not part:
                    break
                parts.append(part)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b"".join(parts) if parts else None
        return b"".join(parts)

    def _send(self, data: bytes) -> None:
        """Send all bytes to the camera."""
        poll, rest = select.poll(), memoryview(data)
        poll.register(self._camera, select.POLLOUT)
        while rest:
            try:
                rest = rest[self._camera.send(rest) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                poll.poll()
            except ssl.SSLWantReadError:
                poll.modify(self._camera, select.POLLIN)
                poll.poll()
                poll.modify(self._camera, select.POLLOUT)

    def _from_ffmpeg(self, part: bytes | RtspMessage) -> None:
        if not isinstance(part, RtspMessage):
            if self.transport != "udp":
                self._send(part)
        elif part.is_response:  # response to a request from the camera
            self._send(part.encode())
        elif (known := self._known_response(part)) is not None:
            assert self._ffmpeg is not None  # noqa: S101 - this request came from FFmpeg
            self._ffmpeg.sendall(known.encode())
        else:
            message = RtspMessage(part.start.replace(self._base, self._client.base), part.headers, part.body)
            match message.start.partition(" ")[0]:
                case "SETUP":
                    self._set_up(message)
                    return
                case "PLAY" if self.transport is not None:
                    for request in self._unused_tracks.set_up(self.transport, part.values("Session")):
                        self._request(_Pending(request, is_own=True))
                    self._media.open_firewalls()
                    self._played = message
                case "TEARDOWN":
                    self._played = None
            self._request(_Pending(message))

    def _set_up(self, asked: RtspMessage) -> None:
        """Request a track over the first transport that the camera has not refused."""
        channel = _CHANNEL.search("".join(asked.values("Transport")))
        if self._transports[0] == "tcp" or channel is None:
            self._request(_Pending(asked, asked=asked))
            return
        track = self._media.open_track(self._camera, int(channel[1]))
        message = asked.with_header("Transport", f"RTP/AVP/UDP;unicast;client_port={track.client_ports}")
        self._request(_Pending(message, asked=asked, track=track))

    def _known_response(self, request: RtspMessage) -> RtspMessage | None:
        """Return the checked response to one of FFmpeg's first requests; None for any other request."""
        method = request.start.partition(" ")[0]
        response = self._client.responses.pop(method, None)
        if response is None:
            return None
        if method == "OPTIONS" and not _is_ok(response):  # otherwise, FFmpeg would give up
            response = RtspMessage("RTSP/1.0 200 OK", (("Public", "DESCRIBE, SETUP, PLAY, TEARDOWN"),))
        if method == "DESCRIBE" and not response.values("Content-Base"):
            response = response.with_header("Content-Base", self._client.url)
        return response.with_header("CSeq", str(request.sequence or 0))

    def _request(self, pending: _Pending) -> None:
        number, request = self._client.prepared(pending.message)
        self._pending[number] = pending
        if len(self._pending) > _MAX_PENDING:
            del self._pending[min(self._pending)]
        self._send(request)

    def _from_camera(self, part: bytes | RtspMessage) -> bytes:
        """Return the bytes to forward to FFmpeg. Raises `SourceError` if the camera redirects."""
        if not isinstance(part, RtspMessage):
            return self._media.feed(part)
        if not part.is_response:
            return part.encode()
        number = part.sequence
        if number is None and self._pending:  # some cameras omit CSeq
            number = min(self._pending)
        pending = self._pending.pop(number or 0, None)
        if pending is None:
            return b""
        if is_redirect(part.status):
            raise redirected(self._client.address)
        if pending.is_own:  # the stream plays even if the camera refuses a track that the hub would discard
            return b""
        if not pending.repeated and self._client.should_repeat(part):
            self._request(pending._replace(repeated=True))
            return b""
        if pending.asked and part.status in REFUSES_TRANSPORT and not self.transport and len(self._transports) > 1:
            self.failure = self._refusal("SETUP", part.status)  # set now, in case the camera disconnects
            del self._transports[0]
            self._media.close_track(pending.track)
            self._set_up(pending.asked)
            return b""
        self._on_response(pending.message.start.partition(" ")[0], part)
        response = part.with_header("CSeq", str(pending.message.sequence or 0)).with_header("WWW-Authenticate", None)
        if pending.track is not None and _is_ok(part):
            response = self._over_tcp(response, pending.track)
        return response.encode()

    def _over_tcp(self, response: RtspMessage, track: DatagramTrack) -> RtspMessage:
        """Convert the response to a UDP SETUP for FFmpeg, which receives the track over TCP."""
        if self.transport == "tcp":  # the camera sends over TCP although the relay requested UDP
            self._media.close_track(track)
            return response
        track.on_setup("".join(response.values("Transport")))
        return response.with_header("Transport", f"RTP/AVP/TCP;unicast;interleaved={track.channel}-{track.channel + 1}")

    def _on_response(self, method: str, response: RtspMessage) -> None:
        """If the camera refuses the stream, store the reason."""
        if method not in {"SETUP", "PLAY"}:
            return
        if not _is_ok(response):
            self.failure = self._refusal(method, response.status)
            return
        self.failure = None
        if method == "PLAY":
            self._client.allow_media()
            self._is_playing = True
        else:
            self.transport = chosen_transport(response.values("Transport"))

    def _refusal(self, method: str, status: int) -> SourceError:
        if is_cause(self._client.camera, method, status):
            return refused(self._client.camera, self._description, status)
        return errors.refused(self._client.address, status)


def _disconnect(*connections: socket.socket | None) -> None:
    for connection in connections:
        if connection is not None:
            with contextlib.suppress(OSError):
                # Do not use `SSLSocket.shutdown`: the relay's thread could then read encrypted bytes as text.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _is_ok(response: RtspMessage) -> bool:
    return response.status == 200  # noqa: PLR2004


def _is_own(peer: tuple[object, ...], listener: tuple[object, ...]) -> bool:
    """Return whether a socket of this process connects these two addresses. The kernel allows only one such connection.

    The first address alone is not enough, because another user can connect from a port that this process also uses.
    """
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            # No other thread can close the copy. The entry may be the listing's own, already closed descriptor.
            copy = os.dup(int(entry.name))
            stack.callback(os.close, copy)
            if stat.S_ISSOCK(os.fstat(copy).st_mode):
                known = socket.socket(fileno=copy)
                stack.callback(known.detach)
                if known.getsockname() == peer and known.getpeername() == listener:
                    return True
    return False
