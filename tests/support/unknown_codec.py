"""A camera that speaks correct RTSP but whose SDP names a nonexistent codec."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_DESCRIPTION: Final = """\
v=0
o=- 0 0 IN IP4 127.0.0.1
s=camera
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 NOBODYS-CODEC/90000
a=control:track
"""


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # clients may disconnect at any time
            self._answer_all()

    def _answer_all(self) -> None:
        while request := self._request():
            method, headers = request
            extra, body = {"CSeq": headers.get("cseq", "0")}, ""
            match method:
                case "OPTIONS":
                    extra["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
                case "DESCRIBE":
                    extra["Content-Type"], body = "application/sdp", _DESCRIPTION
                case "SETUP":
                    extra |= {"Session": "1", "Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}
                case _:
                    extra["Session"] = "1"
            extra["Content-Length"] = str(len(body))
            head = "".join(f"{name}: {value}\r\n" for name, value in extra.items())
            self.wfile.write(f"RTSP/1.0 200 OK\r\n{head}\r\n{body}".encode())
            if method == "PLAY":
                self._send_frames()

    def _request(self) -> tuple[str, dict[str, str]] | None:
        line = self.rfile.readline().decode()
        headers = {}
        while (field := self.rfile.readline().decode().strip()) != "":
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        return (line.split()[0], headers) if line.strip() else None

    def _send_frames(self) -> None:
        for number in range(100):
            payload = (
                bytes([0x80, 0x80 | 96]) + number.to_bytes(2) + (number * 3600).to_bytes(4) + bytes(4) + bytes(200)
            )
            self.wfile.write(b"$\x00" + len(payload).to_bytes(2) + payload)


@pytest.fixture
def unknown_codec() -> Iterator[str]:
    """Return the URL of a camera whose video cannot be decoded."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"rtsp://127.0.0.1:{server.server_address[1]}/stream"
        server.shutdown()
        thread.join()
