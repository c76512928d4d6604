"""Knowledge about a camera that survives a connection: its certificate, authentication and transport.

A camera with an IP address rarely has a certificate that is signed by an authority. The hub therefore trusts the first
certificate that it receives from an IP address, and later accepts no other certificate (trust on first use).
"""

from __future__ import annotations

import ipaddress
import logging
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nvision_hub.config.tls_policy import parse_fingerprint

if TYPE_CHECKING:
    from nvision_hub.config.added_cameras import CameraHost
    from nvision_hub.config.camera_address import CameraAddress
    from nvision_hub.media.sources.rtsp_transport import Transport

log = logging.getLogger("nvision_hub.camera")

_MAX_FILE_BYTES: Final = 256


class CertificateChangedError(Exception):
    """A camera presents another certificate than on first use. `file` is None if the old one is only in memory."""

    def __init__(self, known: str, file: Path | None) -> None:
        super().__init__(known)
        self.known = known
        self.file = file


class KnownCertificates:
    """SHA-256 fingerprints of the first certificates that cameras with IP addresses presented.

    All workers and commands share `directory`, which contains one file per address and port. If `directory` is None,
    the fingerprints stay in memory. If `records` is False, the object only reads the files, and new fingerprints stay
    in memory.
    """

    def __init__(self, directory: Path | None = None, *, records: bool = True) -> None:
        self._directory = directory
        self._records = records
        self._in_memory: dict[str, str] = {}

    def check(self, address: CameraAddress, fingerprint: str) -> None:
        """Accept the first fingerprint of an address. Raises `CertificateChangedError` for any other fingerprint."""
        name = f"{ipaddress.ip_address(address.host)}-{address.dialed_port}"
        file = None if self._directory is None else self._directory / name
        known = None if file is None else _read(file)
        if known is None and file is not None and self._records:
            known = self._record(file, fingerprint)
        if known is None:
            known, file = self._in_memory.setdefault(name, fingerprint), None
        if known != fingerprint:
            raise CertificateChangedError(known, file)

    def _record(self, file: Path, fingerprint: str) -> str | None:
        """Store a fingerprint. Return the stored one, which another process may have stored earlier; None on failure.

        A link never replaces an existing file, and a reader never sees a file without its content.
        """
        try:
            file.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor, new = tempfile.mkstemp(prefix=".", dir=file.parent)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as opened:
                    opened.write(f"{fingerprint}\n")
                with suppress(FileExistsError):
                    os.link(new, file)
            finally:
                Path(new).unlink()
        except OSError as error:
            log.warning(
                "%s cannot be written (%s); until the hub restarts, it accepts only the current certificate",
                file,
                error.strerror,
                extra={"event": "certificate_not_stored"},
            )
            return None
        return _read(file)


@dataclass(kw_only=True)
class CameraTrust:
    """Knowledge of one process about one camera. The process keeps this object across reconnects."""

    certificates: KnownCertificates = field(default_factory=KnownCertificates)
    # Transport of the last stream; None if there was no stream or if it did not open.
    transport: Transport | None = None
    offered_digest: bool = False  # whether the camera has ever offered Digest; the hub then never answers Basic
    onvif_offered_digest: bool = False  # the same for the camera's ONVIF service
    hosts: tuple[CameraHost, ...] = ()  # `gateway.camera_hosts`: other hosts to which an ONVIF camera may refer


def _read(file: Path) -> str | None:
    """Return the fingerprint in a file; None if there is no file.

    For an unreadable file, the result matches no certificate.
    """
    try:
        with file.open("rb") as opened:
            return parse_fingerprint(opened.read(_MAX_FILE_BYTES).decode("ascii", "replace"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return "unreadable"
