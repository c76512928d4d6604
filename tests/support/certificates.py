"""Certificates for TLS servers in tests: an authority, and the certificates that it signs, some of them invalid."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

_DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class ServerCertificate:
    """A certificate and its key, in one PEM file."""

    file: Path
    fingerprint: str  # SHA-256

    def context(self) -> ssl.SSLContext:
        """Return the TLS context of a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        return context


@dataclass(kw_only=True)
class Authority:
    """Certificate authority. `file` is its own certificate, for SSL_CERT_FILE."""

    folder: Path
    file: Path = field(init=False)

    def __post_init__(self) -> None:
        self._count = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.file = self.folder / "authority.pem"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        own = self._builder(self._name, self._key, days=2).issuer_name(self._name).add_extension(basic, critical=True)
        self.file.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _builder(name: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder().subject_name(name).public_key(key.public_key())
        return (
            builder.serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * _DAY)
            .not_valid_after(now + days * _DAY)
        )

    def certify(self, host: str, *, self_signed: bool = False, days: int = 2) -> ServerCertificate:
        """Return a new certificate for a host name or an IP address. With negative `days`, it has already expired."""
        self._count += 1
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"camera {self._count}")])
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        builder = self._builder(name, key, days=days).issuer_name(name if self_signed else self._name)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        file = self.folder / f"{self._count}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
        fingerprint = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
        return ServerCertificate(file=file, fingerprint=fingerprint)
