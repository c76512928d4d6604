"""Forecast of the images of the current month, and image counts as CSV. Performs no I/O."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RECENT_S: Final = 7 * 86_400.0  # one week, because schedules and scenes differ between the days of a week
MIN_RECENT_S: Final = 900.0  # a shorter time is too short to forecast a month
_COUNTS: Final = ("images", "written_off", "cost")


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Expected number of images in a whole period."""

    images: int
    per_second: float  # average rate of the recent time
    is_limit_reached: bool = False  # whether the period's images have used up the limit
    # Seconds until the limit is reached; None if the limit is already reached or not expected to be reached.
    runs_out_s: float | None = None


def forecast(*, used: int, left_s: float, recent: int, recent_s: float, limit: int | None) -> Forecast | None:
    """Return the forecast for a period that ends in `left_s` seconds; None if it is too early for a forecast.

    `used` counts the images of the period up to now. The forecast assumes that the rest of the period continues like
    the recent time: the last `recent_s` seconds (at most `RECENT_S`), with `recent` images. The hub never exceeds
    `limit`. A time in which a limit withheld images counts like any other time, so the forecast is then too low.
    """
    if recent_s < MIN_RECENT_S:
        return None
    rate = recent / recent_s
    if limit is not None and used >= limit:
        return Forecast(images=used, per_second=rate, is_limit_reached=True)
    expected = used + rate * left_s
    if limit is None or expected <= limit:
        return Forecast(images=round(expected), per_second=rate)
    return Forecast(images=limit, per_second=rate, runs_out_s=(limit - used) / rate)


def usage_csv(by: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows of a report as CSV (RFC 4180). `by` is the name of the first column.

    An unknown cost is empty text.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([by, *_COUNTS])
    writer.writerows([row["key"], *(row[name] for name in _COUNTS)] for row in rows)
    return text.getvalue()
