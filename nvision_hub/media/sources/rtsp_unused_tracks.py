"""Audio and metadata tracks that the hub requests from a GStreamer server but discards.

A GStreamer server can share one pipeline among all clients of a stream. If the first client sets up only the video, the
sources of the other tracks stay unlinked and fail. The server then rejects all other clients with status 503. The hub
therefore sets up all tracks of a GStreamer server. From other servers, it requests only video: audio would use
bandwidth and may be private.

Over TCP, FFmpeg discards packets of channels that it has not set up. Over UDP, the kernel discards the packets, because
no process reads the sockets. A stream of 25 audio packets per second takes 0.2 % of a core over TCP and no measurable
time over UDP.
"""

from __future__ import annotations

import contextlib
import re
import socket
from typing import TYPE_CHECKING, Final

from nvision_hub.media.sources.rtp_datagrams import port_pair
from nvision_hub.media.sources.rtsp_messages import RtspMessage

if TYPE_CHECKING:
    from nvision_hub.media.sources.rtsp_transport import Transport

_GSTREAMER: Final = "GStreamer RTSP server"  # value of the Server header
_SECTION: Final = re.compile(rb"^m=(\S+)(.*?)(?=^m=|\Z)", re.MULTILINE | re.DOTALL)
# GStreamer names a track relative to the stream, for example stream=1. An absolute URL could lead elsewhere.
_CONTROL: Final = re.compile(rb"^a=control:([\w=-]+)[ \t\r]*$", re.MULTILINE)
_MAX_TRACKS: Final = 8  # maximum per stream; each track costs one request before the first frame


class UnusedTracks:
    """Tracks of one stream that FFmpeg does not set up.

    `described` is the response to DESCRIBE, `url` the requested URL, and `family` the connection's address family.
    """

    def __init__(self, described: RtspMessage, url: str, family: socket.AddressFamily) -> None:
        self._urls, self._family = _urls(described, url), family
        self._first_channel = 2 * described.body.count(b"m=video")  # FFmpeg numbers its channels from 0
        self._sockets = contextlib.ExitStack()

    def set_up(self, transport: Transport, session: list[str]) -> list[RtspMessage]:
        """Return the requests that add all tracks to FFmpeg's session; none if an earlier call has returned them.

        All tracks use FFmpeg's transport, because a GStreamer server sends nothing in a session that mixes transports.
        """
        requests: list[RtspMessage] = []
        urls, self._urls = self._urls, []
        for number, url in enumerate(urls):
            if transport == "tcp":
                channel = self._first_channel + 2 * number
                carried = f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
            elif port := self._bind_ports():
                carried = f"RTP/AVP;unicast;client_port={port}-{port + 1}"
            else:
                break
            headers = (("Transport", carried), *(("Session", name) for name in session))
            requests.append(RtspMessage(f"SETUP {url} RTSP/1.0", headers))
        return requests

    def close(self) -> None:
        self._sockets.close()

    def _bind_ports(self) -> int | None:
        """Bind two UDP ports, and return the first port; None if no pair is free."""
        with contextlib.suppress(OSError):
            pair = port_pair(self._family, ("", 0))
            for each in pair:
                self._sockets.enter_context(each)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the kernel raises this to its minimum
            port: int = pair[0].getsockname()[1]
            return port
        return None


def _urls(described: RtspMessage, url: str) -> list[str]:
    """Return the URLs of the tracks that FFmpeg does not set up; none if the server is not GStreamer."""
    if _GSTREAMER not in described.values("Server"):
        return []
    base = (described.values("Content-Base") or [url])[0].rstrip("/")
    sections = _SECTION.findall(described.body)[:_MAX_TRACKS]
    controls = [_CONTROL.search(attributes) for kind, attributes in sections if kind != b"video"]
    return [f"{base}/{control[1].decode()}" for control in controls if control]
