"""`${VAR}`, `${VAR:-default}` and `${file:PATH}` in any text of cameras.yaml; `$${` stands for `${`.

The one place that reads the environment and secret files. What they hold is never echoed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

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


class VariableError(ValueError):
    """A reference that leads nowhere; its text names the variable or file and the mend."""


def substitute(text: str, *, environ: Mapping[str, str], directory: Path) -> str:
    """`text` with every reference replaced. Relative files are looked for in `directory`. Raises `VariableError`."""

    def value(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "${"
        if found["file"]:
            return _content(directory / found["file"], found["file"])
        if found["malformed"]:
            raise VariableError(
                "holds a `${` that is no reference; write ${NAME}, ${NAME:-default} or ${file:PATH}, "
                "or $${ where the two characters are meant"
            )
        # As in a shell, `:-` also replaces a variable that is set to nothing.
        given = environ.get(found["name"])
        if found["default"] is not None:
            return given or found["default"]
        if given is None:
            name = found["name"]
            raise VariableError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        return given

    return REFERENCE.sub(value, text)


def _content(path: Path, written: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not valid"
        raise VariableError(f"the file {written} cannot be read: {reason}") from error
    if len(content) > MAX_SECRET_BYTES:
        raise VariableError(f"the file {written} is larger than {MAX_SECRET_BYTES} bytes, too large for one value")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        # Without the cause: a decoding error holds the bytes.
        raise VariableError(f"the file {written} is not UTF-8 text") from None
