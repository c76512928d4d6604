"""Format of times: ISO 8601 in UTC with milliseconds and `Z`, as in the Nvision documentation."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_utc(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as a string such as `2026-11-22T14:00:00.120Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_iso(text: str | None) -> float | None:
    """Return an ISO 8601 time with its offset in seconds since the epoch; None for any other string."""
    try:
        time = datetime.fromisoformat(text or "")
    except (ValueError, OverflowError):
        return None
    return None if time.tzinfo is None else time.timestamp()
