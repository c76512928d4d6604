"""Monitor that decides when to report that the service is slower than its clients. Performs no I/O.

Without a limit, each skipped image would cause a log line. A short overload is normal, for example while threads load
their models, so the first report comes only after `FIRST_REPORT_S`. An overload ends after `MAX_GAP_S` without a
skipped image. Occasional skipped images are therefore no overload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_REPORT_S: Final = 10.0
NEXT_REPORT_S: Final = 300.0
MAX_GAP_S: Final = 10.0  # maximum time between two skipped images of one overload


@dataclass(frozen=True, kw_only=True, slots=True)
class OverloadReport:
    """Image counts for `seconds` seconds of overload: all images, and those that the service did not process."""

    images: int
    skipped: int
    seconds: float


class OverloadMonitor:
    """Counter of skipped images. Callers pass the time in monotonic seconds."""

    def __init__(self) -> None:
        self._began_at = 0.0
        self._last_at: float | None = None  # time of the last skipped image
        self._images = 0  # number of images that had arrived at `_began_at`
        self._skipped = 0
        self._reported_at: float | None = None

    def skip(self, now: float, images: int) -> OverloadReport | None:
        """Count a skipped image. Return a report if it is due. `images` is the number of all images since the start."""
        if self._last_at is None or now - self._last_at > MAX_GAP_S:
            self._begin(now, images - 1)
        self._last_at = now
        self._skipped += 1
        seconds = now - self._began_at
        if seconds < FIRST_REPORT_S or (self._reported_at is not None and now - self._reported_at < NEXT_REPORT_S):
            return None
        report = OverloadReport(images=images - self._images, skipped=self._skipped, seconds=seconds)
        self._begin(now, images)
        self._reported_at = now
        return report

    def _begin(self, now: float, images: int) -> None:
        self._began_at, self._images, self._skipped = now, images, 0
