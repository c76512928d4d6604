"""The results that wait on disk, as a publisher has them: never blocking its loop, and counted in its meter.

Where there is no place for a spool, or its disk refuses, there is no backlog, and the caller keeps what it has.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from nvision_hub.broker.spool import Spool, SpoolPlace, SpoolRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvision_hub.broker.outgoing import Outgoing
    from nvision_hub.status import Meter

log = logging.getLogger("nvision_hub.broker")

Arguments = ParamSpec("Arguments")
Outcome = TypeVar("Outcome")


class Backlog:
    """One process's spool. One call at a time."""

    def __init__(self, place: SpoolPlace | None, meter: Meter) -> None:
        self._spool = None if place is None else Spool(place)
        self._meter = meter
        self.count = 0  # as of the last call that has returned
        self.error: str | None = None  # why the disk cannot be used, as a sentence; None while it can

    @property
    def usable(self) -> bool:
        """Whether there is a place on disk, and nothing known against it."""
        return self._spool is not None and self.error is None

    async def take_over(self) -> None:
        """What an earlier process has left becomes this one's."""
        if self._spool is not None and self._spool.left_behind:
            await self._done(self._spool.open)

    async def save(self, results: Sequence[Outgoing]) -> bool:
        """Put results behind the others; False where they are still the caller's."""
        if self._spool is None:
            return False
        return not results or await self._done(self._spool.put, results)

    async def oldest(self, most: int, most_bytes: int) -> tuple[list[Outgoing], int] | None:
        """The oldest, and the position that `sent` asks for; None where there are none that can be read."""
        if self._spool is None or not self.count:
            return None
        try:
            return await self._asked(self._spool.oldest, most, most_bytes)
        except SpoolRefusedError:
            return None

    async def sent(self, results: Sequence[Outgoing], position: int) -> None:
        """The oldest have arrived."""
        if self._spool is not None:
            await self._asked(self._spool.sent, results, position)

    async def close(self) -> None:
        """Leave the rest to the next process of the same name."""
        if self._spool is not None:
            await asyncio.to_thread(self._spool.close)

    async def _done(self, work: Callable[Arguments, None], *args: Arguments.args, **options: Arguments.kwargs) -> bool:
        try:
            await self._asked(work, *args, **options)
        except SpoolRefusedError:
            return False
        return True

    async def _asked(
        self, work: Callable[Arguments, Outcome], *args: Arguments.args, **options: Arguments.kwargs
    ) -> Outcome:
        assert self._spool is not None  # noqa: S101 - whoever calls has looked
        try:
            outcome = await asyncio.to_thread(work, *args, **options)
        except SpoolRefusedError as error:
            if self.error is None:
                log.warning("%s; make room there or mend it: they wait in memory, the last few", error)
            self.error = str(error)
            raise
        finally:
            self._account(self._spool)
        self.error = None
        return outcome

    def _account(self, spool: Spool) -> None:
        for reason, number in spool.lost.items():
            self._meter.count("results_lost_total", by=number, reason=reason)
        spool.lost.clear()
        if spool.found:
            log.info("%s results of an earlier process wait on disk", spool.found)
            self._meter.count("results_recovered_total", by=spool.found)
            spool.found = 0
        if spool.files_set_aside:
            self._meter.count("spools_set_aside_total", by=spool.files_set_aside)
            spool.files_set_aside = 0
        self.count = spool.count
