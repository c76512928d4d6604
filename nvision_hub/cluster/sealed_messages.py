"""Sealed messages: authentication of everything that hubs exchange through Redis.

Other programs can write to this Redis. Each message therefore carries an HMAC under the fleet key, which is not in
Redis. The HMAC covers the message's kind, addressee, expiry, nonce and payload byte for byte:

    nvision-hub-1 <kind> <addressee> <expiry, ms since the epoch> <nonce> <HMAC-SHA-256, hex>
    <payload>

A hub without a fleet key writes `-` in place of the HMAC. Other hubs without a key read messages of this form, but
execute no command from them. This module performs no I/O and reads no clock.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nvision_hub.config.value_types import Secret

VALIDITY_S: Final = 30.0  # also the largest permitted difference between the clocks of two machines
MAX_NONCES: Final = 100_000  # nonces of unexpired messages; a hub of 100 cameras receives about 100 commands per second
MAX_HEADER_BYTES: Final = 512
GATEWAY: Final = "gateway"  # addressee of replies
COMMANDS: Final = "commands"  # addressee of the gateway's address
NO_KEY: Final = (
    "commands to other hubs need a fleet key; set redis.fleet_key to the same secret in the cameras.yaml of all hubs "
    "(`openssl rand -base64 32` creates one)"
)

_VERSION: Final = b"nvision-hub-1"
_UNSIGNED: Final = b"-"
_HEADER: Final = re.compile(
    rb"nvision-hub-1 (?P<kind>[a-z]{1,16}) (?P<addressee>[A-Za-z0-9_-]{1,100}) (?P<expiry>[0-9]{1,15}) "
    rb"(?P<nonce>[0-9a-f]{32}) (?P<mac>-|[0-9a-f]{64})"
)


class MessageKind(StrEnum):
    """Purpose of a message. A message of one kind is never valid as another kind."""

    RECORD = "record"
    COMMAND = "command"
    REPLY = "reply"
    ADDRESS = "address"


class RejectionReason(StrEnum):
    """Reason why an entry in Redis has no effect. The names are labels of a metric."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    VERSION = "version"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad_signature"
    WRONG_ADDRESSEE = "wrong_addressee"
    EXPIRED = "expired"
    REPLAYED = "replayed"
    NO_KEY = "no_key"


_SENTENCES: Final = {
    RejectionReason.MALFORMED: "it is malformed",
    RejectionReason.TOO_LARGE: "it is too large",
    RejectionReason.VERSION: "another version of nvision-hub wrote it; run the same version on all machines",
    RejectionReason.UNSIGNED: "it is not signed; set the same redis.fleet_key for all hubs of the fleet",
    RejectionReason.BAD_SIGNATURE: (
        "its signature is wrong; set the same redis.fleet_key, site and redis.prefix for all hubs of the fleet, and "
        "check who can write to Redis"
    ),
    RejectionReason.WRONG_ADDRESSEE: "it is for another process or group",
    RejectionReason.EXPIRED: "it has expired; synchronize the clocks of all machines",
    RejectionReason.REPLAYED: "it was received before",
    RejectionReason.NO_KEY: NO_KEY,
}


class RejectedEntryError(ValueError):
    """An entry in Redis is invalid or not authentic, so it has no effect."""

    def __init__(self, reason: RejectionReason) -> None:
        super().__init__(_SENTENCES[reason])
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class SealedMessage:
    """Content of a message whose seal has been checked."""

    payload: bytes
    nonce: bytes
    expires_at: float  # seconds since the epoch


@dataclass(frozen=True, kw_only=True)
class FleetSeal:
    """Seal of one fleet, which signs the fleet's messages and checks them. Times are in seconds since the epoch.

    The signature covers the site and the prefix. Fleets that share a key therefore reject each other's messages.
    """

    key: Secret | None  # if None, messages are neither signed nor authentic
    site: str
    prefix: str

    def seal(self, kind: MessageKind, payload: bytes, *, addressee: str, now: float) -> bytes:
        """Return `payload` as a message that is valid for `VALIDITY_S`."""
        expiry, nonce = int((now + VALIDITY_S) * 1000), secrets.token_hex(16)
        head = f"{kind} {addressee} {expiry} {nonce}".encode()
        signature = self._signature(head, payload) or _UNSIGNED
        return b"%b %b %b\n%b" % (_VERSION, head, signature, payload)

    def open(self, kind: MessageKind, data: bytes, *, addressee: str, now: float, max_bytes: int) -> SealedMessage:
        """Return the content of a message. Raises `RejectedEntryError` unless the message is valid and authentic.

        Without a fleet key, this method checks no signature. The caller must then not treat the message as authentic.
        """
        if len(data) > max_bytes + MAX_HEADER_BYTES:
            raise RejectedEntryError(RejectionReason.TOO_LARGE)
        header, separator, payload = data.partition(b"\n")
        found = _HEADER.fullmatch(header)
        if found is None or not separator:
            is_other_version = re.match(rb"nvision-hub-[0-9]{1,9} ", header) and not header.startswith(_VERSION + b" ")
            raise RejectedEntryError(RejectionReason.VERSION if is_other_version else RejectionReason.MALFORMED)
        head = header[len(_VERSION) + 1 : found.start("mac") - 1]
        if (signature := self._signature(head, payload)) is not None:
            if found["mac"] == _UNSIGNED:
                raise RejectedEntryError(RejectionReason.UNSIGNED)
            if not hmac.compare_digest(found["mac"], signature):
                raise RejectedEntryError(RejectionReason.BAD_SIGNATURE)
        if found["kind"] != kind.encode() or found["addressee"] != addressee.encode():
            raise RejectedEntryError(RejectionReason.WRONG_ADDRESSEE)
        expires_at = int(found["expiry"]) / 1000
        if not now <= expires_at <= now + 2 * VALIDITY_S:
            raise RejectedEntryError(RejectionReason.EXPIRED)
        return SealedMessage(payload=payload, nonce=found["nonce"], expires_at=expires_at)

    def _signature(self, head: bytes, payload: bytes) -> bytes | None:
        """Return the HMAC in hexadecimal; None if there is no fleet key."""
        if self.key is None:
            return None
        scope = b"nvision-hub fleet\0%b\0%b" % (self.site.encode(), self.prefix.encode())
        derived = hmac.digest(self.key.reveal().encode("utf-8", "surrogatepass"), scope, hashlib.sha256)
        signed = hmac.new(derived, b"%b %b\n" % (_VERSION, head), hashlib.sha256)
        signed.update(payload)
        return signed.hexdigest().encode()


class ReplayGuard:
    """Memory of the messages that one receiver has accepted and that have not expired.

    Accepts each message only once.
    """

    def __init__(self) -> None:
        self._expiries: dict[bytes, float] = {}  # by nonce, in order of arrival

    def admit(self, message: SealedMessage, now: float) -> None:
        """Accept a message. Raises `RejectedEntryError` for a second copy and if too many messages arrive."""
        while self._expiries and next(iter(self._expiries.values())) < now:
            del self._expiries[next(iter(self._expiries))]
        if len(self._expiries) >= MAX_NONCES:
            self._expiries = {nonce: expiry for nonce, expiry in self._expiries.items() if expiry >= now}
        if message.nonce in self._expiries or len(self._expiries) >= MAX_NONCES:
            raise RejectedEntryError(RejectionReason.REPLAYED)
        self._expiries[message.nonce] = message.expires_at
