"""Answers to a camera's challenge: Basic (RFC 7617) and Digest with MD5 (RFC 7616), which is what cameras speak."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.config import CameraAddress

_PARAMETER: Final = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,]+))')


@dataclass(frozen=True, slots=True)
class Credentials:
    """A camera's user name and password. Bytes that are no UTF-8 stand as lone surrogates."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(***)"

    @classmethod
    def of(cls, address: CameraAddress) -> Credentials | None:
        """Those of an address; None where it has none."""
        if address.username is None:
            return None
        return cls(address.username, address.password.reveal() if address.password else "")


def answer_to(challenges: Sequence[str], credentials: Credentials, method: str, uri: str, count: int) -> str | None:
    """The Authorization header that the challenges ask for; None where they ask for something unknown.

    `count` numbers the answers to one challenge, from 1. Digest where it is offered: Basic tells the password to
    whoever listens on the way.
    """
    offered = {each.partition(" ")[0].lower(): each.partition(" ")[2] for each in challenges}
    if "digest" in offered:
        parameters = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(offered["digest"])}
        if parameters.get("algorithm", "MD5").upper() == "MD5":
            return _digest(parameters, credentials, method, uri, count)
    if "basic" in offered:
        word = _bytes(f"{credentials.username}:{credentials.password}")
        return f"Basic {base64.b64encode(word).decode()}"
    return None


def _digest(asked: dict[str, str], credentials: Credentials, method: str, uri: str, count: int) -> str:
    realm, nonce = asked.get("realm", ""), asked.get("nonce", "")
    secret = _md5(f"{credentials.username}:{realm}:{credentials.password}")
    request = _md5(f"{method}:{uri}")
    fields = {"username": credentials.username, "realm": realm, "nonce": nonce, "uri": uri}
    if "auth" in re.split(r"[\s,]+", asked.get("qop", "")):
        ours = secrets.token_hex(8)
        fields["response"] = _md5(f"{secret}:{nonce}:{count:08x}:{ours}:auth:{request}")
        more = f', qop=auth, nc={count:08x}, cnonce="{ours}"'
    else:
        fields["response"] = _md5(f"{secret}:{nonce}:{request}")
        more = ""
    if "opaque" in asked:
        fields["opaque"] = asked["opaque"]
    return "Digest " + ", ".join(f'{name}="{_quoted(value)}"' for name, value in fields.items()) + more


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _md5(text: str) -> str:
    return hashlib.md5(_bytes(text), usedforsecurity=False).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
