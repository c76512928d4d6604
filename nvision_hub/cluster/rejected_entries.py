"""Counter and log for the Redis entries that a process rejects.

Anyone who can write to Redis can cause these log lines, so the process logs each cause at most once a minute.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from nvision_hub.control_characters import printable
from nvision_hub.metrics import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.cluster.sealed_messages import RejectedEntryError
    from nvision_hub.metrics.meter import Meter

log = logging.getLogger("nvision_hub.cluster")

LOG_INTERVAL_S: Final = 60.0
MAX_NAME_CHARACTERS: Final = 100


class RejectedEntries:
    """Rejected entries of one process. `clock` returns monotonic seconds."""

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = meter
        self._clock = clock
        self._logged_at: dict[tuple[str, str], float] = {}  # by kind and reason, which limits the number of keys

    def add(self, kind: str, place: str, error: RejectedEntryError, *, count: int = 1) -> None:
        """Count rejected entries of `kind`. `place` is the key or channel in Redis."""
        self._meter.count(catalogue.FLEET_ENTRIES_REJECTED_TOTAL, by=count, kind=kind, reason=error.reason)
        cause, now = (kind, error.reason), self._clock()
        if now - self._logged_at.get(cause, float("-inf")) < LOG_INTERVAL_S:
            return
        self._logged_at[cause] = now
        log.warning(
            "%s in Redis ignored (%s): %s; more of them are only counted for the next minute",
            kind,
            printable(place[:MAX_NAME_CHARACTERS]),
            error,
            extra={"event": "fleet_entry_rejected", "fault": cause},
        )
