"""TLS front of a camera, which decrypts connections, records the clients' data, and forwards it to a plain server."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.certificates import ServerCertificate


@dataclass(kw_only=True)
class TlsFront:
    """Server on `port` of 127.0.0.1 that presents `certificate`. The certificate may change at any time."""

    port_behind: int
    certificate: ServerCertificate
    received: list[bytes] = field(default_factory=list)  # decrypted bytes from clients
    handshakes: int = 0  # number of attempts, including those that clients aborted

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The port on which the front listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def replace(self, certificate: ServerCertificate) -> None:
        """Present another certificate, forget the received bytes, and disconnect all clients."""
        self.certificate = certificate
        self.received.clear()
        self.disconnect()

    def disconnect(self) -> None:
        """Disconnect all clients."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.disconnect()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(caller, self.certificate), daemon=True).start()

    def _serve(self, caller: socket.socket, certificate: ServerCertificate) -> None:
        with caller, contextlib.suppress(OSError):
            self.handshakes += 1
            with (
                certificate.context().wrap_socket(caller, server_side=True) as client,
                socket.create_connection(("127.0.0.1", self.port_behind)) as camera,
            ):
                self._open.append(client)
                self._forward(client, camera)

    def _forward(self, client: ssl.SSLSocket, camera: socket.socket) -> None:
        """Forward in one thread, because OpenSSL does not support reads and writes of one connection in two threads."""
        client.settimeout(0.0)
        while True:
            if not client.pending():
                select.select([client, camera], [], [])
            with contextlib.suppress(ssl.SSLWantReadError):
                data = client.recv(65536)
                if not data:
                    return
                self.received.append(data)
                camera.sendall(data)
            readable, _, _ = select.select([camera], [], [], 0)
            if readable:
                data = camera.recv(65536)
                if not data:
                    return
                client.settimeout(None)
                client.sendall(data)
                client.settimeout(0.0)


@pytest.fixture
def tls_front() -> Iterator[Callable[[int, ServerCertificate], TlsFront]]:
    """Start a front: `tls_front(camera.port, authority.certify("localhost"))`."""
    started: list[TlsFront] = []

    def start(port_behind: int, certificate: ServerCertificate) -> TlsFront:
        front = TlsFront(port_behind=port_behind, certificate=certificate)
        started.append(front)
        return front

    yield start
    for front in started:
        front.close()
