"""Setting `tls` of a camera: how the hub verifies the identity of a camera that uses TLS."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from nvision_hub.config.value_types import ConfigString
from nvision_hub.errors import InvalidValueError, did_you_mean

TlsMode = Literal["verify", "fingerprint", "insecure"]

FINGERPRINT: Final = "fingerprint:"
_SHA256: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, repr=False)
class TlsPolicy(ConfigString):
    """`verify`, `insecure`, or `fingerprint:` with the SHA-256 fingerprint of the camera's certificate."""

    mode: TlsMode
    fingerprint: str = ""  # 64 lower-case hexadecimal digits; empty in the other modes

    example: ClassVar = "verify"
    pattern: ClassVar = r"^(verify|insecure|fingerprint:([0-9A-Fa-f]{2}:?){32})$"

    @property
    def shown(self) -> str:
        return f"{FINGERPRINT}{self.fingerprint}" if self.fingerprint else self.mode

    @classmethod
    def parse(cls, text: str) -> TlsPolicy:
        match text.strip():
            case "verify":
                return cls("verify")
            case "insecure":
                return cls("insecure")
            case given if given.startswith(FINGERPRINT):
                return cls("fingerprint", parse_fingerprint(given.removeprefix(FINGERPRINT)))
            case given:
                hint = did_you_mean(given, ["verify", "insecure", "fingerprint"])
                raise InvalidValueError(f"must be verify, insecure or fingerprint:<sha256>{hint}")


def parse_fingerprint(text: str) -> str:
    """Return a fingerprint in lower case without colons. Accepts the output of OpenSSL. Raises `InvalidValueError`."""
    digits = text.strip().replace(":", "").lower()
    if not _SHA256.fullmatch(digits):
        raise InvalidValueError(
            "must have 64 hexadecimal digits after `fingerprint:`",
            "`nvision-hub probe` shows the fingerprint of a camera's certificate",
        )
    return digits
