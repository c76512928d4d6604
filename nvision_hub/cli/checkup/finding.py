"""What one check has found: its name, its verdict, and a sentence that says what is so and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Callable


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # the hub runs, and something may be missed
    FAILED = "failed"  # the hub, or a part of it, does not run like this


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of `doctor`."""

    name: str
    verdict: Verdict
    sentence: str


def ok(name: str, sentence: str) -> Finding:
    """All is well."""
    return Finding(name=name, verdict=Verdict.OK, sentence=sentence)


def warning(name: str, sentence: str) -> Finding:
    """It works, with a limit that somebody should know."""
    return Finding(name=name, verdict=Verdict.WARNING, sentence=sentence)


def failed(name: str, sentence: str) -> Finding:
    """It does not work."""
    return Finding(name=name, verdict=Verdict.FAILED, sentence=sentence)


def attempted(name: str, attempt: Callable[[], str], *, needed: bool = True) -> Finding:
    """What `attempt` returns, or the sentence of the `HubError` that it raises."""
    try:
        return ok(name, attempt())
    except HubError as error:
        return failed(name, str(error)) if needed else warning(name, str(error))
