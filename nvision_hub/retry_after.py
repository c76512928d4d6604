"""Parser for the Retry-After header of an HTTP response (RFC 9110, 10.2.3).

The header comes from a server that the hub does not control, so no header value may cause an exception.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime


def parse_retry_after(value: str | None, *, now: float, max_s: float) -> float | None:
    """Return the seconds to wait, from 0 to `max_s`; None if the header is absent or unreadable.

    A date without a time zone counts as UTC. `now` is in seconds since the epoch.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        wait_s = float(text)  # float() returns infinity for a huge number; int() raises beyond 4,300 digits
    else:
        try:
            at = parsedate_to_datetime(text)
            wait_s = (at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp() - now
        except (ArithmeticError, LookupError, TypeError, ValueError):  # OverflowError if the year exceeds a C int
            return None
    return min(max(wait_s, 0.0), max_s)
