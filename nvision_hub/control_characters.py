"""Control characters (C0, DEL and C1) in strings from cameras, Redis, services and users.

A line break in these strings could add a line to a request or log. An escape character could control a terminal.
"""

from __future__ import annotations

import re
from typing import Final

from nvision_hub.errors import InvalidValueError

_ANY: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# All control characters except tabs and line feeds.
_ANY_BUT_LINES: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LEFT_BY_JSON: Final = re.compile(r"[\x7f-\x9f]")


def without_control_characters(text: str) -> str:
    """Return a configuration value unchanged. Raises `InvalidValueError` if the value contains a control character."""
    if _ANY.search(text):
        raise InvalidValueError("contains a line break or another control character", "remove it")
    return text


def printable(text: str) -> str:
    """Replace every character that is not printable, including line breaks, with a question mark.

    Strings from cameras, services and logs must not control the terminal or change the layout of a line.
    """
    return "".join(character if character.isprintable() else "?" for character in text)


def replace_control_characters(text: str) -> str:
    """Replace each control character except tabs and line feeds with a question mark.

    Use this function for printed or logged text that may have several lines.
    """
    return _ANY_BUT_LINES.sub("?", text)


def escape_json(text: str) -> str:
    """Escape the control characters that `json.dumps` with `ensure_ascii=False` leaves unescaped in JSON text."""
    return _LEFT_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
