"""TCP connections to cameras, with TLS if the camera's scheme requires it.

`connect_camera` checks the camera's identity according to `tls` before it returns a connection. The hub therefore never
sends a request or a password to an unidentified peer. FFmpeg cannot ensure this: by default, it does not verify
certificates, and it cannot compare fingerprints. The hub therefore makes all connections to cameras itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from nvision_hub.config.tls_policy import TlsPolicy
from nvision_hub.config.url import is_ip
from nvision_hub.media.sources import errors
from nvision_hub.media.sources.camera_trust import CertificateChangedError
from nvision_hub.media.sources.source import SourceError

if TYPE_CHECKING:
    from nvision_hub.config.camera_address import CameraAddress
    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources.camera_trust import CameraTrust

_VERIFY: Final = TlsPolicy("verify")
_Endpoint = tuple[int, int, int, str, tuple[str, int]]  # an item of `socket.getaddrinfo`


class OpenDeadline:
    """Time limit for a camera's answer to the current request.

    Each request may take `timeout_s`, because a connection with a login takes five round trips. All requests together
    may take twice `timeout_s`.
    """

    def __init__(self, address: CameraAddress, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._address = address
        self._at = time.monotonic() + timeout_s
        self._last = self._at + timeout_s

    def on_answered(self) -> None:
        """Restart the time limit for the next request."""
        self._at = min(time.monotonic() + self.timeout_s, self._last)

    def left_s(self) -> float:
        """Return the remaining seconds. After the deadline, raises `SourceError`."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise errors.stalled(self._address, self.timeout_s)
        return left


class CameraConnection(NamedTuple):
    """Connection to an identified camera. `fingerprint` is the SHA-256 of its certificate; None without TLS."""

    socket: socket.socket
    fingerprint: str | None


def connect_camera(camera: Camera, trust: CameraTrust, deadline: OpenDeadline) -> CameraConnection:
    """Connect to the camera and identify it. Raises `SourceError`."""
    address = camera.address
    connection = _connect(address, deadline)
    deadline.on_answered()
    if not address.is_encrypted:
        return CameraConnection(connection, None)
    try:
        return _identify(connection, camera, trust, deadline)
    except BaseException:
        connection.close()
        raise


def _identify(
    connection: socket.socket, camera: Camera, trust: CameraTrust, deadline: OpenDeadline
) -> CameraConnection:
    address, policy = camera.address, camera.tls
    if policy is None and not is_ip(address.host):
        policy = _VERIFY
    try:
        encrypted = _encrypt(connection, address, deadline, verifies=policy == _VERIFY)
    except ssl.SSLCertVerificationError as error:
        raise errors.untrusted_certificate(address, error.verify_message, _fingerprint(address, deadline)) from error
    except TimeoutError as error:
        raise errors.stalled(address, deadline.timeout_s) from error
    except OSError as error:
        raise (errors.no_tls if isinstance(error, ssl.SSLError) else errors.unreachable)(address) from error
    with contextlib.ExitStack() as undo:
        undo.enter_context(contextlib.closing(encrypted))
        deadline.on_answered()
        found = _certificate_hash(encrypted)
        _check(address, policy, found, trust)
        undo.pop_all()
    return CameraConnection(encrypted, found)


def _check(address: CameraAddress, policy: TlsPolicy | None, found: str | None, trust: CameraTrust) -> None:
    """Raise `SourceError` if `found` is not the expected fingerprint. Without `policy`, apply trust on first use."""
    if found is None:  # TLS permits servers without a certificate
        raise errors.no_tls(address)
    if policy is not None:
        if policy.fingerprint not in {"", found}:
            raise errors.other_certificate(address, found, policy.fingerprint)
        return
    try:
        trust.certificates.check(address, found)
    except CertificateChangedError as error:
        raise errors.changed_certificate(address, found, error.known, error.file) from error


def _encrypt(
    connection: socket.socket, address: CameraAddress, deadline: OpenDeadline, *, verifies: bool
) -> ssl.SSLSocket:
    """Complete the TLS handshake before the deadline. Raises `OSError` (`ssl.SSLError` is a subclass)."""
    context = ssl.create_default_context()  # OpenSSL also reads SSL_CERT_FILE and SSL_CERT_DIR
    if not verifies:
        # The fingerprint identifies the camera instead of a signature. Many cameras have short keys and old signatures.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    connection.settimeout(deadline.left_s())
    return context.wrap_socket(connection, server_hostname=address.host)


def _certificate_hash(connection: ssl.SSLSocket) -> str | None:
    certificate = connection.getpeercert(binary_form=True)
    return None if certificate is None else hashlib.sha256(certificate).hexdigest()


def _fingerprint(address: CameraAddress, deadline: OpenDeadline) -> str | None:
    """Return the fingerprint of a certificate that failed verification, for the error message; None if unreadable.

    Python reveals this certificate only on a connection without verification. No request is sent on this connection.
    """
    with (
        contextlib.suppress(SourceError, OSError),
        _connect(address, deadline) as connection,
        _encrypt(connection, address, deadline, verifies=False) as encrypted,
    ):
        return _certificate_hash(encrypted)
    return None


def _connect(address: CameraAddress, deadline: OpenDeadline) -> socket.socket:
    """Connect to one of the host's addresses. The attempts share the remaining time. Raises `SourceError`."""
    endpoints = _resolve(address, deadline)
    while True:
        share_s = deadline.left_s() / len(endpoints)
        family, kind, protocol, _, endpoint = endpoints.pop(0)
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(share_s)
            connection.connect(endpoint)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            if not endpoints:
                is_refused = isinstance(error, ConnectionRefusedError)
                raise (errors.connection_refused if is_refused else errors.unreachable)(address) from error
        else:
            return connection


def _resolve(address: CameraAddress, deadline: OpenDeadline) -> list[_Endpoint]:
    """Return one or more addresses of the host. Raises `SourceError`."""
    found: list[object] = []

    def resolve() -> None:
        # `UnicodeError` if a label of the host name is longer than 63 characters
        with contextlib.suppress(OSError, UnicodeError):
            found.extend(socket.getaddrinfo(address.host, address.dialed_port, type=socket.SOCK_STREAM))

    # Without this thread, an unresponsive name server would block the caller for a minute.
    thread = threading.Thread(target=resolve, name="resolve", daemon=True)
    thread.start()
    thread.join(deadline.left_s())
    if not found:
        raise errors.unknown_host(address)
    return list(found)  # type: ignore[arg-type]  # getaddrinfo's own type is a union over families
