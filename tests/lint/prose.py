"""Find words and phrases that the project's prose avoids."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.lint.files import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Sentences with these words are hard to read. Name the actor and the action instead.
AVOIDED: Final = re.compile(
    r"""\b(?:
        anew | want\ of | (?:let|lets|letting)\ go\ of | whoever | whomever | whatever | nobody | somebody
        | mend(?:s|ed|ing)? | tells? | told | telling | as\ it\ is | such\ an? | by\ itself | puts?\ up\ with
        | last\ words | (?:take|takes|taken|taking|took)\ up | (?:stand|stands|stood|standing)\ still | besides
        | none\ of\ its\ own | what\ \w+(?:\ \w+)?\ does | meanwhile(?=[.;:)]|$)
    )\b""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
# Sentences that keep an avoided word: (path, the words around it) -> reason.
ALLOWED: Final[dict[tuple[str, str], str]] = {}


def avoided_words(paths: Iterable[str]) -> Iterator[str]:
    """Find avoided words in comments and strings of Python files, and anywhere in other files."""
    for path in paths:
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        pieces = _python_prose(text) if Path(path).suffix == ".py" else [(1, text)]
        for first_line, piece in pieces:
            for found in AVOIDED.finditer(piece):
                line = first_line + piece.count("\n", 0, found.start())
                context = piece[max(0, found.start() - 60) : found.end() + 60]
                if not any(path == where and words in context for where, words in ALLOWED):
                    yield f"{path}:{line}: avoid “{found[0].lower()}”"


def conflict_markers(paths: Iterable[str]) -> Iterator[str]:
    """Find the marks that git leaves in a file with a conflict."""
    for path in paths:
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith(("<<<<<<< ", ">>>>>>> ")):
                yield f"{path}:{number}: a conflict that is not resolved"


def unused_allowances() -> Iterator[str]:
    """Find allowed sentences that no longer exist."""
    for path, words in ALLOWED:
        file = ROOT / path
        if not file.is_file() or words not in file.read_text(encoding="utf-8"):
            yield f"{path}:1: the exception for “{words}” in tests/lint/prose.py matches nothing"


def _python_prose(source: str) -> list[tuple[int, str]]:
    """Return comments and strings, each with the number of its first line."""
    kinds = {tokenize.COMMENT, tokenize.STRING}
    return [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in kinds
    ]
