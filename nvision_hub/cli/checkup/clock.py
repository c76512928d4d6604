"""Whether this machine's clock is right, by the clocks of what it talks to.

Events carry wall-clock times, and consumers compare them with their own.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import httpx2

from nvision_hub.cli.checkup.finding import Finding, ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvision_hub.config import ServiceAddress

OFF_S: Final = 5.0
WITHIN_S: Final = 5.0
_DATE_STEP_S: Final = 1.0  # RFC 9110, 5.6.7: the header tells whole seconds


def judge(ahead_s: Mapping[str, float]) -> Finding:
    """The verdict on how far each other clock, by name, is ahead of ours, in seconds."""
    if not ahead_s:
        return ok("clock", "not compared: nothing that the hub talks to tells the time")
    where, worst = max(ahead_s.items(), key=lambda each: abs(each[1]))
    if abs(worst) <= OFF_S:
        return ok("clock", f"agrees with {', '.join(ahead_s)}")
    direction = "behind" if worst > 0 else "ahead of"
    return warning(
        "clock",
        f"this machine is {_shown(abs(worst))} {direction} {where}; set the clock of the one that is wrong "
        "(`timedatectl set-ntp true` keeps it right), or the times of events mislead",
    )


def of_service(address: ServiceAddress) -> float | None:
    """How far the service's clock is ahead of ours, in seconds, by its Date header; None where it tells none."""
    if address.url is None:
        return None
    url = address.url._replace(scheme="https" if address.url.scheme == "wss" else "http").dial()
    before = time.time()
    try:
        answer = httpx2.get(url, timeout=WITHIN_S)
        date = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (httpx2.HTTPError, httpx2.InvalidURL, KeyError, ValueError):
        return None
    return date + _DATE_STEP_S / 2 - (before + time.time()) / 2


def _shown(seconds: float) -> str:
    for unit, factor in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.0f} {unit}"
    return f"{seconds:.0f} s"
