"""Asynchronous access of a publisher to its spool.

The writer runs each spool call in a thread and counts lost and recovered results with the publisher's meter. Without a
configured spool, or while the disk fails, the writer stores nothing and the caller keeps its results.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from nvision_hub.broker.spool import Spool, SpoolSettings, SpoolWriteError
from nvision_hub.metrics import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvision_hub.broker.send_buffer import OutgoingEvent
    from nvision_hub.metrics.meter import Meter

log = logging.getLogger("nvision_hub.broker")

Arguments = TypeVarTuple("Arguments")
Value = TypeVar("Value")


class SpoolWriter:
    """Writer for the spool of one process. Only one call may run at a time."""

    def __init__(self, settings: SpoolSettings | None, meter: Meter) -> None:
        self._spool = None if settings is None else Spool(settings)
        self._meter = meter
        self.count = 0  # results in the spool after the last call
        self.error: str | None = None  # message that says why the disk cannot be used; None while the disk is usable

    @property
    def is_usable(self) -> bool:
        """Whether a spool is configured and its last call succeeded."""
        return self._spool is not None and self.error is None

    async def recover(self) -> None:
        if self._spool is not None and self._spool.is_left_behind:
            await self._run(self._spool.open)

    async def save(self, results: Sequence[OutgoingEvent]) -> bool:
        """Append results. Return False if the caller must keep them."""
        if self._spool is not None and results:
            await self._run(self._spool.put, results)
            return self.error is None
        return self._spool is not None

    async def oldest(self, max_events: int, max_bytes: int) -> tuple[list[OutgoingEvent], int] | None:
        """Return the oldest results and the position to pass to `remove`; None if no result can be read."""
        if self._spool is None or not self.count:
            return None
        return await self._run(self._spool.oldest, max_events, max_bytes)

    async def remove(self, results: Sequence[OutgoingEvent], position: int) -> None:
        if self._spool is not None:
            await self._run(self._spool.remove, results, position)

    async def close(self) -> None:
        if self._spool is not None:
            await asyncio.to_thread(self._spool.close)

    async def _run(self, work: Callable[[*Arguments], Value], *args: *Arguments) -> Value | None:
        """Run `work` in a thread and return its value. If the disk fails, set `error` and return None."""
        assert self._spool is not None  # noqa: S101 - the callers have checked
        try:
            value = await asyncio.to_thread(work, *args)
        except SpoolWriteError as error:
            if self.error is None:
                log.warning(
                    "%s; free disk space or fix the disk; until then, only the newest results are kept, in memory",
                    error,
                    extra={"event": "spool_failed"},
                )
            self.error = str(error)
            return None
        finally:
            self._count(self._spool)
        self.error = None
        return value

    def _count(self, spool: Spool) -> None:
        for reason, number in spool.lost.items():
            self._meter.count(catalogue.RESULTS_LOST_TOTAL, by=number, reason=reason)
        spool.lost.clear()
        if spool.found:
            log.info("%s results of an earlier process are on disk", spool.found, extra={"event": "spool_recovered"})
            self._meter.count(catalogue.RESULTS_RECOVERED_TOTAL, by=spool.found)
            spool.found = 0
        if spool.files_set_aside:
            self._meter.count(catalogue.SPOOLS_SET_ASIDE_TOTAL, by=spool.files_set_aside)
            spool.files_set_aside = 0
        self.count = spool.count
