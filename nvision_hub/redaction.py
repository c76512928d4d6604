"""Redaction of text that leaves the program: secrets in addresses, and every secret value that the program knows.

`redact` runs where log records are written and where an error of a library or a peer becomes a sentence. The
configuration registers its secrets when it is loaded, before any value is validated. A worker registers the secrets of
its own settings.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HIDDEN: Final = "***"

# A shorter value also occurs in ordinary text, for example as a port, a pid or part of a word. Redacting it would make
# log lines unreadable, and the `***` in a familiar word would reveal the value.
MIN_CHARACTERS: Final = 6
WHOLE_WORD_CHARACTERS: Final = 8  # a shorter value is hidden only if it is a whole word
# Default passwords of cameras that are also words in this program's log lines, where `***` would reveal them.
ORDINARY_WORDS: Final = frozenset(
    {"camera", "cameras", "default", "gateway", "nvision", "password", "service", "stream", "streaming", "supervisor"}
)
MAX_VALUES: Final = 10_000  # beyond this number, `KnownSecrets` forgets the values that were registered first

# Camera passwords may contain @ : / ? # and quotes. The user information therefore ends at the last @ before the next
# white space that a host can follow. This may hide too much, which is better than showing part of a password. The
# pattern limits the lengths of scheme and user information, because matching a long line of base64 would otherwise take
# minutes.
_USERINFO: Final = re.compile(r"([a-z][a-z0-9+.-]{0,31}://)\S{0,4096}@(?=[\w\[])", re.IGNORECASE)
# Secret parameters of a query, or of a path such as /user=admin&password=x. The value ends where the next parameter
# begins.
_PARAMETER: Final = re.compile(
    r"((?:passw(?:or)?d|passphrase|pwd|secret|token|credentials?|(?:api|access|private|streaming)[_-]?key"
    r"|[?&;][\w.-]{0,32}(?:pass|pwd|token|key|secret|auth|sig|sess)[\w.-]{0,32})=)([^\s&;/?#\"'<>]+)",
    re.IGNORECASE,
)


class KnownSecrets:
    """Secret values to hide in text. Any thread may call `scrub` while another thread adds values."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}  # in the order of registration; replaced, never changed
        self._compiled: tuple[dict[str, None], re.Pattern[str] | None] = (self._values, None)

    def add(self, values: Iterable[str]) -> None:
        """Add values. Values that are too short or too ordinary to be hidden are ignored."""
        new = {value: None for value in values if _is_hidden(value)}
        if new.keys() <= self._values.keys():
            return
        kept = {value: None for value in self._values if value not in new} | new
        self._values = dict.fromkeys(itertools.islice(kept, max(0, len(kept) - MAX_VALUES), None))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def scrub(self, text: str) -> str:
        """Return `text` with `***` in place of each value, including its escaped forms."""
        values, (compiled_values, pattern) = self._values, self._compiled
        if compiled_values is not values:
            pattern = _pattern(values)
            # Assign both at once. Otherwise, `scrub` could use a pattern that lacks a value from another thread.
            self._compiled = (values, pattern)
        return text if pattern is None else pattern.sub(HIDDEN, text)


_KNOWN: Final = KnownSecrets()


def known_secrets() -> tuple[str, ...]:
    """Return the secrets that this process hides."""
    return tuple(_KNOWN)


def register_secrets(values: Iterable[str]) -> None:
    """Register values to hide in all text that this process, or a process that it forks later, redacts."""
    _KNOWN.add(values)


def redact(text: str) -> str:
    """Return `text` with `***` in place of known secrets, user information and secret parameters of addresses."""
    text = _USERINFO.sub(rf"\1{HIDDEN}@", _KNOWN.scrub(text))
    return _PARAMETER.sub(rf"\1{HIDDEN}", text) if "=" in text else text


def secret_parameters(address: str) -> list[str]:
    """Return the values of those parameters of an address that are named like a secret, such as `password`."""
    return [found[2] for found in _PARAMETER.finditer(address)]


def _is_hidden(value: str) -> bool:
    return len(value) >= MIN_CHARACTERS and value.lower() not in ORDINARY_WORDS and value.strip("*") != ""


def escaped_forms(value: str) -> Iterator[str]:
    """Yield the value as written, as escaped in an address, and as escaped in a Python or JSON string."""
    yield value
    yield quote(value, safe="", errors="surrogateescape")
    yield quote_plus(value, errors="surrogateescape")
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]


def _pattern(values: Iterable[str]) -> re.Pattern[str] | None:
    """Return one pattern that finds every form of every value; None if there is no value."""
    long, short = set[str](), set[str]()
    for value in values:
        (long if len(value) >= WHOLE_WORD_CHARACTERS else short).update(escaped_forms(value))
    parts = []
    if long:
        parts.append(_alternation(long))
    if short:
        parts.append(rf"(?<![^\W_]){_alternation(short)}(?![^\W_])")
    return re.compile("|".join(parts)) if parts else None


def _alternation(words: Iterable[str]) -> str:
    """Return a pattern that matches the longest possible word and groups the words by first character.

    At each position, `re` then compares one character per group instead of one character per word.
    """
    groups = itertools.groupby(sorted(words, key=lambda word: (word[0], -len(word), word)), key=lambda word: word[0])
    escaped = (f"{re.escape(first)}(?:{'|'.join(re.escape(word[1:]) for word in group)})" for first, group in groups)
    return f"(?:{'|'.join(escaped)})"
