"""Substitution of `${VAR}`, `${VAR:-default}` and `${file:PATH}` in any string of cameras.yaml.

`$${` means a literal `${`. No other module of `config` looks up variables or reads secret files. Error messages never
contain the content of a variable or file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nvision_hub.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_SECRET_BYTES: Final = 65536

REFERENCE: Final = re.compile(
    r"\$(?:(?P<escaped>\$\{)"
    r"|\{file:(?P<file>[^}]+)\}"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
    r"|(?P<malformed>\{))"
)


class VariableError(InvalidValueError):
    """Error for a reference that is malformed or unresolvable."""


def substitute(text: str, *, environ: Mapping[str, str], directory: Path) -> str:
    """Return `text` with every reference replaced. File paths are relative to `directory`. Raises `VariableError`."""

    def value(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "${"
        if found["file"]:
            return _content(directory / found["file"], found["file"])
        if found["malformed"]:
            raise VariableError(
                "contains a `${` that is not a reference",
                "write ${NAME}, ${NAME:-default} or ${file:PATH}, or $${ for the two characters",
            )
        # As in a shell, `:-` also replaces an empty variable.
        given = environ.get(found["name"])
        if found["default"] is not None:
            return given or found["default"]
        if given is None:
            name = found["name"]
            raise VariableError(f"the environment variable {name} is not set", f"set it, or write ${{{name}:-default}}")
        return given

    return REFERENCE.sub(value, text)


def referenced_variables(text: str) -> set[str]:
    """Return the names of the environment variables in the references of `text`."""
    return {found["name"] for found in REFERENCE.finditer(text) if found["name"]}


def _content(path: Path, written: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the file name is not valid"
        raise VariableError(f"the file {written} cannot be read: {reason}") from error
    if len(content) > MAX_SECRET_BYTES:
        raise VariableError(f"the file {written} is larger than the maximum of {MAX_SECRET_BYTES} bytes")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        # Raise the error without its cause, because a decoding error contains bytes of the file.
        raise VariableError(f"the file {written} is not UTF-8 text") from None
