"""Checks of `doctor`. Each check returns or yields its results and prints nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Callable


class CheckStatus(StrEnum):
    PASSED = "passed"
    WARNING = "warning"  # the hub runs, but with a limitation
    FAILED = "failed"  # the hub or one of its parts cannot run


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check. `message` explains the result and, if there is a problem, how to fix it."""

    name: str
    status: CheckStatus = field(kw_only=True)
    message: str


passed = partial(CheckResult, status=CheckStatus.PASSED)
warning = partial(CheckResult, status=CheckStatus.WARNING)
failed = partial(CheckResult, status=CheckStatus.FAILED)


def run_check(name: str, check: Callable[[], str], *, required: bool = True) -> CheckResult:
    """Return a passed result with the message that `check` returns.

    If `check` raises a `HubError`, return a result with the error's message. The result is a failure, or a warning if
    the check is not `required`.
    """
    try:
        return passed(name, check())
    except HubError as error:
        return failed(name, str(error)) if required else warning(name, str(error))
