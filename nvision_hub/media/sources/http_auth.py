"""HTTP and RTSP authentication as cameras implement it: Basic (RFC 7617) and Digest (RFC 7616).

Digest proves that the hub knows the password, whereas Basic sends the password. An attacker who can change the traffic
could replace a camera's Digest challenge with a Basic challenge. Once a camera has offered Digest, the hub therefore
never answers Basic, even if the hub does not support the offered variant of Digest.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from nvision_hub.media.sources import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources.camera_trust import CameraTrust

_HASHES: Final = {"MD5": hashlib.md5, "SHA": hashlib.sha1, "SHA-256": hashlib.sha256, "SHA-512": hashlib.sha512}
_SESSION: Final = "-SESS"
_ALGORITHMS: Final = frozenset(name + suffix for name in _HASHES for suffix in ("", _SESSION))

_ITEM: Final = re.compile(r'(?:[^",]|"[^"]*"?)+')  # parts between commas, except commas inside quotes
_SCHEME: Final = re.compile(r"\s*([A-Za-z][\w-]*)(?:\s+(?!\s*=)(.*))?\s*\Z", re.DOTALL)
_PARAMETER: Final = re.compile(r'\s*([\w-]+)\s*=\s*(?:"([^"]*)"?|([^\s,]*))\s*\Z')
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # in a header, a tab counts as white space


class Challenge(NamedTuple):
    """One authentication method that a camera offers. Names are in lowercase."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(headers: Iterable[str]) -> Iterator[Challenge]:
    """Yield the challenges in all WWW-Authenticate headers. One header may contain several (RFC 9110, 11.6.1).

    If a header contains a control character, its parameters are ignored. No answer can then contain this character.
    """
    for header in headers:
        current: Challenge | None = None
        for item in _ITEM.findall(header):
            parameter, text = _PARAMETER.match(item), item
            if parameter is None and (scheme := _SCHEME.match(item)):
                if current is not None:
                    yield current
                current, text = Challenge(scheme[1].lower(), {}), scheme[2] or ""
                parameter = _PARAMETER.match(text)
            if parameter and current is not None and not _CONTROL.search(header):
                current.parameters.setdefault(parameter[1].lower(), parameter[2] or parameter[3] or "")
        if current is not None:
            yield current


class CameraAuth:
    """Credentials of one camera and its last challenges. Each connection starts without challenges."""

    def __init__(self, camera: Camera, trust: CameraTrust) -> None:
        self.sent_basic = False
        self._address = camera.address
        self._requires_digest = camera.auth == "digest"
        self._trust = trust
        self._challenges: list[Challenge] = []
        self._nonce_count = 0  # number of requests that used the current challenges (RFC 7616)

    @property
    def has_credentials(self) -> bool:
        return self._address.username is not None

    @property
    def is_challenged(self) -> bool:
        """Whether the camera has asked for the credentials on this connection."""
        return bool(self._challenges)

    def on_challenge(self, headers: Iterable[str]) -> None:
        """Use these challenges from now on."""
        self._challenges, self._nonce_count = list(parse_challenges(headers)) or [Challenge("", {})], 0
        self._trust.offered_digest |= any(challenge.scheme == "digest" for challenge in self._challenges)

    def header(self, method: str, uri: str) -> str | None:
        """Return the Authorization header of the next request; None before a challenge, or without a user name.

        In the header, a lone surrogate represents each byte that is not valid UTF-8. Raises `SourceError` if the camera
        offers no method that the hub supports and may use.
        """
        if not self._challenges or not self.has_credentials:
            return None
        self._nonce_count += 1
        username, password = self._address.username or "", self._address.password
        secret = password.reveal() if password else ""
        schemes = {challenge.scheme for challenge in self._challenges}
        for challenge in self._challenges:
            if challenge.scheme == "digest" and _is_supported(challenge.parameters):
                return _digest(
                    challenge.parameters, username, secret, method=method, uri=uri, nonce_count=self._nonce_count
                )
        if "digest" in schemes or "basic" not in schemes:
            raise errors.authentication_unsupported(self._address)
        if self._requires_digest:
            raise errors.basic_refused(self._address)
        if self._trust.offered_digest:
            raise errors.downgraded(self._address)
        self.sent_basic = True
        return f"Basic {base64.b64encode(_bytes(f'{username}:{secret}')).decode()}"


def _is_supported(challenge: Mapping[str, str]) -> bool:
    qop = challenge.get("qop")  # missing or empty if the server follows RFC 2069
    is_complete = {"realm", "nonce"} <= challenge.keys()
    return is_complete and _algorithm(challenge) in _ALGORITHMS and (not qop or "auth" in _words(qop))


def _algorithm(challenge: Mapping[str, str]) -> str:
    return challenge.get("algorithm", "MD5").upper()


def _words(text: str) -> list[str]:
    return re.split(r"[\s,]+", text)


def _digest(
    challenge: Mapping[str, str], username: str, password: str, *, method: str, uri: str, nonce_count: int
) -> str:
    realm, nonce, algorithm = challenge["realm"], challenge["nonce"], _algorithm(challenge)
    new_hash = _HASHES[algorithm.removesuffix(_SESSION)]

    def digest(text: str) -> str:
        return new_hash(_bytes(text), usedforsecurity=False).hexdigest()

    client_nonce = secrets.token_hex(8)
    secret = digest(f"{username}:{realm}:{password}")
    if algorithm.endswith(_SESSION):
        secret = digest(f"{secret}:{nonce}:{client_nonce}")
    request = digest(f"{method}:{uri}")
    fields = {"username": username, "realm": realm, "nonce": nonce, "uri": uri}
    more = f", algorithm={challenge['algorithm']}" if "algorithm" in challenge else ""
    if "auth" in _words(challenge.get("qop", "")):
        fields["response"] = digest(f"{secret}:{nonce}:{nonce_count:08x}:{client_nonce}:auth:{request}")
        more += f', qop=auth, nc={nonce_count:08x}, cnonce="{client_nonce}"'
    else:
        fields["response"] = digest(f"{secret}:{nonce}:{request}")
        more += f', cnonce="{client_nonce}"' if algorithm.endswith(_SESSION) else ""
    if "opaque" in challenge:
        fields["opaque"] = challenge["opaque"]
    return "Digest " + ", ".join(f'{name}="{_quoted(value)}"' for name, value in fields.items()) + more


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
