"""Roles, access tokens, and the strength of a token.

The hub keeps only the SHA-256 digest of a token. A fast hash is enough, because a token has at least `MIN_BITS` random
bits: no attacker can try 2**128 tokens. A slow hash, as for passwords, would only slow down each request.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from dataclasses import dataclass
from typing import Final, Literal, get_args

RoleName = Literal["metrics", "view", "control", "admin"]
ROLES: Final[tuple[RoleName, ...]] = get_args(RoleName)  # each role includes the rights of the roles before it

MIN_BITS: Final = 128
TOKEN_PREFIX: Final = "nvh_"  # noqa: S105 - makes a token recognizable for scanners that look for leaked secrets
_TOKEN_BYTES: Final = 32
MAX_CHARACTERS: Final = 1024

_VISIBLE: Final = re.compile(r"[\x21-\x7e]*")
# Sizes of the alphabets that generators use. The first alphabet that contains all characters of the text is used.
_ALPHABETS: Final = (
    (re.compile(r"[0-9-]*"), 10),
    (re.compile(r"[0-9a-f-]*|[0-9A-F-]*"), 16),
    # Words, perhaps with initial capitals: one letter of English text holds about two bits.
    (re.compile(r"(?:[A-Z](?=[a-z]{2})|[a-z ._-])*"), 4),
    (re.compile(r"[0-9a-z._-]*|[0-9A-Z._-]*"), 32),
    (re.compile(r"[0-9A-Za-z+/=_.~-]*"), 64),
)
_MAX_ALPHABET: Final = 94
_MIN_DISTINCT: Final = 8
_SEQUENCE_LENGTH: Final = 8  # of equal, ascending or descending characters; random tokens almost never have this many
_WORDS: Final = re.compile(
    "password|passwd|secret|token|bearer|change-?me|example|default|letmein|qwerty|nvision|gateway|camera|admin|canary",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class AccessToken:
    """A token that the gateway accepts. `digest` is the SHA-256 digest in hexadecimal."""

    name: str
    role: RoleName
    digest: str


def includes(role: RoleName, required: RoleName) -> bool:
    """Return whether `role` has the rights of `required`."""
    return ROLES.index(role) >= ROLES.index(required)


def new_token() -> str:
    """Return a random token of 256 bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def token_digest(token: str) -> str:
    """Return the SHA-256 digest of a token in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def weakness(token: str) -> str | None:
    """Return a phrase that says why a token is not safe, such as `must have at least 128 bits`; None if it is safe.

    The function estimates how many bits an attacker must guess. Words, sequences and repetitions add no bits.
    """
    if not _VISIBLE.fullmatch(token) or len(token) > MAX_CHARACTERS:
        return f"must be at most {MAX_CHARACTERS} visible ASCII characters, without spaces"
    if _bits(token) < MIN_BITS:
        return f"is shorter than {MIN_BITS} bits, which are 32 hexadecimal digits or 22 characters of base64"
    unknown = _WORDS.sub("", _without_sequences(_without_repetition(token)))
    if len(set(token)) < _MIN_DISTINCT or _bits(unknown, like=token) < MIN_BITS:
        return "can be guessed, because it consists of words, sequences or repetitions"
    return None


def _bits(text: str, *, like: str | None = None) -> float:
    """Return the number of bits of a random `text` in the alphabet of `like` (default: the alphabet of `text`).

    In alphabets of up to 32 characters, hyphens do not count, because they only separate groups.
    """
    sample = text if like is None else like
    size = next((size for alphabet, size in _ALPHABETS if alphabet.fullmatch(sample)), _MAX_ALPHABET)
    return len(text.replace("-", "") if size <= 32 else text) * math.log2(size)  # noqa: PLR2004 - separators of groups


def _without_repetition(text: str) -> str:
    """Return the shortest text whose repetition gives `text`."""
    for length in range(1, len(text) // 2 + 1):  # the last repetition may be incomplete
        if (text[:length] * (len(text) // length + 1)).startswith(text):
            return text[:length]
    return text


def _without_sequences(text: str) -> str:
    """Return `text` without its runs of characters whose codes stay equal, rise by one or fall by one."""
    kept, start = [], 0
    while start < len(text):
        end = start + 1
        if end < len(text) and (step := ord(text[end]) - ord(text[start])) in {-1, 0, 1}:
            while end < len(text) and ord(text[end]) - ord(text[end - 1]) == step:
                end += 1
        if end - start < _SEQUENCE_LENGTH:
            end = start + 1
            kept.append(text[start])
        start = end
    return "".join(kept)
