"""RTSP camera that sends media only over UDP.

The test chooses each packet, and the camera records the hub's packets.
"""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DESCRIPTION: Final = b"v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:video\r\n"
SSRC: Final = b"cam1"
_CLIENT_PORTS: Final = re.compile(r"client_port=(\d+)-(\d+)")


def rtp(number: int, payload: bytes, *, time: int = 0, last: bool = True, ssrc: bytes = SSRC) -> bytes:
    """Return an RTP packet with video."""
    kind = 96 | (0x80 if last else 0)
    return bytes([0x80, kind]) + (number % 2**16).to_bytes(2) + (time % 2**32).to_bytes(4) + ssrc + payload


class DatagramCamera:
    """Camera for one client at a time.

    `source` is the address in the camera's Transport header, and `refusal` is its response to a request for TCP.
    """

    def __init__(
        self, *, host: str = "127.0.0.1", source: str = "", timeout_s: int = 60, refusal: str = "461 Unsupported"
    ) -> None:
        self.host = host
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=self._family)
        self.port: int = self._listener.getsockname()[1]
        self.rtp, self.rtcp = self.bind(), self.bind()
        self.requests: queue.Queue[str] = queue.Queue()  # requests, each without its last line
        self.at_play: list[bytes] = []  # packets from the hub to the RTP and RTCP ports before PLAY
        self.client = ("", 0)  # address for RTP; the next port is for RTCP
        self._source, self._timeout_s, self._refusal = source, timeout_s, refusal
        threading.Thread(target=self._accept, daemon=True).start()

    def bind(self, host: str = "") -> socket.socket:
        """Return another socket of the camera or, if `host` is given, of another machine."""
        end = socket.socket(self._family, socket.SOCK_DGRAM)
        end.bind((host or self.host, 0))
        end.settimeout(PATIENCE_S)
        return end

    @property
    def url(self) -> str:
        return f"rtsp://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/cam"

    def wait_for(self, method: str) -> str:
        """Return the next request with this method."""
        while True:
            request = self.requests.get(timeout=PATIENCE_S)
            if request.startswith(method + " "):
                return request

    def send(self, packet: bytes, end: socket.socket | None = None) -> None:
        """Send an RTP packet from the announced port, or from another socket."""
        (end or self.rtp).sendto(packet, self.client)

    def send_rtcp(self, packet: bytes) -> None:
        self.rtcp.sendto(packet, (self.client[0], self.client[1] + 1))

    def close(self) -> None:
        for each in (self._listener, self.rtp, self.rtcp):
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, (host, *_) = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    self._serve(connection, host)

    def _serve(self, connection: socket.socket, host: str) -> None:
        received = b""
        while data := connection.recv(4096):
            received += data
            while b"\r\n\r\n" in received:
                head, _, received = received.partition(b"\r\n\r\n")
                connection.sendall(self._response(head.decode(), host))

    def _response(self, request: str, host: str) -> bytes:
        self.requests.put(request)
        method = request.partition(" ")[0]
        headers, body = re.findall(r"CSeq: \d+", request), b""
        match method:
            case "OPTIONS":
                headers.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
            case "DESCRIBE":
                body = DESCRIPTION
            case "SETUP":
                ports = _CLIENT_PORTS.search(request)
                if ports is None:
                    return f"RTSP/1.0 {self._refusal}\r\n{headers[0]}\r\n\r\n".encode()
                self.client = (host, int(ports[1]))
                server = f"{self.rtp.getsockname()[1]}-{self.rtcp.getsockname()[1]}"
                headers.append(f"Transport: RTP/AVP/UDP;unicast;{ports[0]};server_port={server}{self._source}")
                headers.append(f"Session: 7;timeout={self._timeout_s}")
            case "PLAY":
                self.at_play = [end.recv(4096) for end in (self.rtp, self.rtcp)]
        head = "\r\n".join(["RTSP/1.0 200 OK", *headers, f"Content-Length: {len(body)}", "", ""])
        return head.encode() + body


@pytest.fixture
def datagram_camera() -> Iterator[Callable[..., DatagramCamera]]:
    """Start a camera: `datagram_camera(timeout_s=2)`."""
    started: list[DatagramCamera] = []

    def start(**settings: Any) -> DatagramCamera:
        started.append(DatagramCamera(**settings))
        return started[-1]

    yield start
    for camera in started:
        camera.close()
