"""Error classes with their exit codes, diagnostics (errors as data), and suggestions for mistyped words.

Every error that a user may see is a `HubError`. No message contains a secret: the raising code passes addresses through
`redaction.redact` first.

    HubError (1)
    ├─ ConfigError (78)       cameras.yaml is invalid; carries one `Diagnostic` per problem
    ├─ UnavailableError (69)  a dependency is missing: a port, a library, Redis
    └─ SourceError            a camera failed; carries the state that operators see
"""

from __future__ import annotations

import difflib
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 69  # sysexits.h EX_UNAVAILABLE
EXIT_CONFIG: Final = 78  # sysexits.h EX_CONFIG; the supervisor does not restart a worker that exits with this code
EXIT_INTERRUPTED: Final = 130

KeyPath = tuple[str | int, ...]  # ("cameras", 0, "url")

_PLAIN_KEY: Final = re.compile(r"[\w.-]{1,64}")


def safe_key(key: str) -> str:
    """Return a key of the user's file in a form that is safe to show.

    YAML reads `password:hunter2`, without a space after the colon, as one key. A key may therefore contain a secret.
    """
    if _PLAIN_KEY.fullmatch(key):
        return key
    beginning = re.split(r"[^\w.-]", key, maxsplit=1)[0]
    return f"{beginning[:32]}…"


def format_key_path(path: KeyPath) -> str:
    """Return a key path as a string such as `cameras[0].url`, with each key in the form that `safe_key` returns."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{safe_key(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice most similar to `word`; None if no choice is similar.

    Swapped letters (`fsp`, `rtps`) are the most frequent mistake. difflib rates a swap of two letters as less similar
    than an added letter, so this function looks for swaps first.
    """
    word, lowered = word.lower(), {choice.lower(): choice for choice in choices}
    near = [choice for choice in lowered if sorted(choice) == sorted(word)]
    near = near or difflib.get_close_matches(word, lowered, n=1)
    return lowered[near[0]] if near else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a suggestion to append to a message about `word`; empty if no choice is similar."""
    near = nearest(word, choices)
    return "" if near is None else f"; did you mean `{near}`?"


def either(choices: list[str]) -> str:
    """Return the choices as a phrase such as `a, b or c`."""
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnostic:
    """One problem as data. No attribute holds a value from the user's file, because any value may be a secret.

    The string form is `file:line:column: field: message; fix`, without the parts that are missing. `line` and `column`
    count from 1. Both are None if the problem has no position in the file.
    """

    code: str  # stable, such as `unknown_key`
    message: str  # what is wrong
    fix: str | None = None  # how to fix the problem; None if the message already says how
    path: KeyPath = ()  # the keys that lead to the value, in the form that `safe_key` returns
    file: str | None = None
    line: int | None = None
    column: int | None = None

    def __post_init__(self) -> None:
        path = tuple(safe_key(part) if isinstance(part, str) else part for part in self.path)
        object.__setattr__(self, "path", path)

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return ": ".join(part for part in (place, self.field, self.text) if part)

    @property
    def field(self) -> str:
        """The path as a string, such as `cameras[0].url`; empty if the problem concerns no key."""
        return format_key_path(self.path)

    @property
    def text(self) -> str:
        return self.message if self.fix is None else f"{self.message}; {self.fix}"

    def as_dict(self) -> dict[str, Any]:
        """Return all attributes and `field` as JSON values."""
        return {**asdict(self), "path": list(self.path), "field": self.field}


class HubError(Exception):
    """An error for the user. The message says what is wrong, where, and how to fix it.

    `diagnostics` holds the same information as data. It is empty if the error consists of the message only.
    """

    exit_code: int = EXIT_FAILED
    diagnostics: tuple[Diagnostic, ...] = ()


class DiagnosedError(HubError):
    """An error whose message consists of the strings of its `diagnostics`."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return "\n".join(map(str, self.diagnostics))


class ConfigError(DiagnosedError):
    """cameras.yaml or another setting is invalid. `diagnostics` holds every problem found."""

    exit_code = EXIT_CONFIG


class InvalidValueError(ValueError):
    """A value of cameras.yaml is not accepted. Neither `message` nor `fix` contains the value."""

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(message if fix is None else f"{message}; {fix}")
        self.message, self.fix = message, fix


class UnavailableError(HubError):
    """A dependency is unavailable: a port is in use, a library is missing, or Redis does not answer."""

    exit_code = EXIT_UNAVAILABLE
