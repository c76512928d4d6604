"""When a delivery that failed is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0
# The delay before each try; the first is at once. Those that Standard Webhooks recommends ("Deliverability and
# reliability"): about three days and four hours, then the dead letters.
SCHEDULE_S: Final = (
    0.0,
    5.0,
    5 * _MINUTE_S,
    30 * _MINUTE_S,
    2 * _HOUR_S,
    5 * _HOUR_S,
    10 * _HOUR_S,
    14 * _HOUR_S,
    20 * _HOUR_S,
    24 * _HOUR_S,
)
JITTER: Final = 0.1  # at most this much later, so that what failed together does not come back together
RETRY_AFTER_MAX_S: Final = 24 * _HOUR_S
TIMEOUT_S: Final = 15.0  # for one try, from the name's resolution to the answer's last byte
CONNECTIONS: Final = 16  # at most, to one endpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How often, how long and how many at once. Its defaults are the contract; tests live faster."""

    schedule_s: tuple[float, ...] = SCHEDULE_S
    timeout_s: float = TIMEOUT_S
    connections: int = CONNECTIONS


def delay_s(attempts: int, *, retry_after_s: float, jitter: float, schedule_s: tuple[float, ...]) -> float | None:
    """Seconds until the next try of a delivery that was tried `attempts` times; None where that was the last.

    `retry_after_s` is what the endpoint asked for, 0 where nothing; `jitter` is drawn from 0 to 1.
    """
    if attempts >= len(schedule_s):
        return None
    return max(schedule_s[attempts] * (1 + JITTER * jitter), retry_after_s)


def retry_after_s(value: str | None, now: float) -> float:
    """What a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date), 0 where it asks for nothing readable.

    `now` is in seconds since the epoch.
    """
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        # Six digits are past any limit; a longer number would not become a float at all.
        return min(float(value.strip()[:6]), RETRY_AFTER_MAX_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max(0.0, at.timestamp() - now), RETRY_AFTER_MAX_S)
