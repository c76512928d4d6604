"""A text that must not be seen: a key, a token, a password. Owns how it hides; knows nothing of what it opens."""

from __future__ import annotations

import hmac
from typing import ClassVar, Final

from nvision_hub.config.written import Written

HIDDEN: Final = "***"


class Secret(Written):
    """A text that shows as `***` wherever it is printed, formatted, logged or serialised; `reveal()` gives it."""

    __slots__ = ("_text",)

    example: ClassVar = "${SECRET}"

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def parse(cls, text: str) -> Secret:
        """Any text is one."""
        return cls(text)

    @property
    def shown(self) -> str:
        """Always the same, so that not even the length is told."""
        return HIDDEN

    def reveal(self) -> str:
        """The text itself, for the one call that needs it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        """Compare in constant time, so that a token may be checked with `==`."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._encoded(), other._encoded())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def _encoded(self) -> bytes:
        # Lone surrogates stand for a password's bytes that are no UTF-8; see url.py.
        return self._text.encode("utf-8", "surrogatepass")
