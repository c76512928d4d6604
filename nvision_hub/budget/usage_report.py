"""Forecast of the images of the current month, and reports of images as CSV. Performs no I/O."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RECENT_S: Final = 7 * 86_400.0  # a whole week, because schedules and scenes differ between the days of a week
MIN_RECENT_S: Final = 900.0  # a shorter time says little about a month
_COUNTS: Final = ("images", "written_off", "cost")


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Images expected in the whole of a period. `runs_out_s` is None unless its limit runs out before its end."""

    images: int
    per_second: float  # average rate of the recent time
    runs_out_s: float | None  # seconds until the limit is reached; 0 if it has been reached


def forecast(*, used: int, left_s: float, recent: int, recent_s: float, limit: int | None) -> Forecast | None:
    """Return the forecast for a period that lasts for another `left_s` seconds; None if it is too early for one.

    `used` counts the images of the period up to now. The rest of the period is expected to continue like the recent
    time: the last `recent_s` seconds, at most `RECENT_S`, with `recent` images. The hub never exceeds `limit`.
    """
    if recent_s < MIN_RECENT_S:
        return None
    rate = recent / recent_s
    expected = used + rate * left_s
    if limit is None or expected <= limit:
        return Forecast(images=round(expected), per_second=rate, runs_out_s=None)
    runs_out_s = max(0, limit - used) / rate if rate else 0.0
    return Forecast(images=max(limit, used), per_second=rate, runs_out_s=runs_out_s)


def usage_csv(by: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows of a report as CSV (RFC 4180). `by` is the name of the first column. An unknown cost is empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([by, *_COUNTS])
    writer.writerows([row["key"], *(row[name] for name in _COUNTS)] for row in rows)
    return text.getvalue()
