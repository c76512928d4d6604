"""What a mistyped word was probably meant to be."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`, None where none is near.

    Swapped letters come first: the commonest slip (`fsp`, `rtps`), which difflib rates below an added letter.
    """
    lowered = {choice.lower(): choice for choice in choices}
    for choice, original in lowered.items():
        if sorted(choice) == sorted(word.lower()):
            return original
    near = difflib.get_close_matches(word.lower(), lowered, n=1)
    return lowered[near[0]] if near else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of a sentence about `word`: empty where no choice is near."""
    near = nearest(word, choices)
    return "" if near is None else f"; did you mean `{near}`?"


def either(choices: list[str]) -> str:
    """`a, b or c`."""
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)
