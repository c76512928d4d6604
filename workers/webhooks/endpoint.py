"""One webhook from end to end: takes up what there is room for, and hands it to what sends.

Each has its own group, queue, connections and breaker, so that a dead one delays nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nvision_hub.backoff import Backoff
from nvision_hub.broker.delivery_queue import Keys
from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.errors import redact
from workers.webhooks.bell import Bell
from workers.webhooks.breaker import room
from workers.webhooks.figures import Figures
from workers.webhooks.intake import Intake, Item, Taken
from workers.webhooks.outlet import Outlet
from workers.webhooks.poster import Poster
from workers.webhooks.settlement import Settled, Settlement

if TYPE_CHECKING:
    from datetime import datetime

    import redis.asyncio
    from redis.asyncio.client import Pipeline

    from nvision_hub.config import Webhook
    from nvision_hub.status import Meter
    from workers.webhooks.schedule import Pace

log = logging.getLogger("nvision_hub.webhooks")

READ_AHEAD: Final = 4  # results in hand for each connection: what is sent next is there, what is settled is on its way
LOOKED_EVERY_S: Final = 1.0
GATHERED_S: Final = 0.005  # after a result arrived: those that follow it closely are read with it
DRAINED_WITHIN_S: Final = 1.5


class Endpoint:
    """One webhook. `run` is its task, for ever."""

    def __init__(
        self,
        webhook: Webhook,
        *,
        client: redis.asyncio.Redis,
        prefix: str,
        site: str,
        meter: Meter,
        pace: Pace,
        since: datetime,
    ) -> None:
        self._webhook = webhook
        self._pace = pace
        self._keys = Keys(prefix=prefix, webhook=webhook.id)
        self._bell = Bell()
        self._intake = Intake(client, self._keys, WebhookFilter.of(webhook.model_dump(mode="json")), since)
        self._settlement = Settlement(client, self._keys, self._written)
        self._figures = Figures(webhook=webhook, meter=meter)
        self._poster = Poster(webhook, connections=pace.connections, timeout_s=pace.timeout_s)
        self._outlet = Outlet(
            webhook,
            self._keys,
            self._intake,
            self._settlement,
            self._figures,
            self._poster,
            self._bell,
            site=site,
            pace=pace,
        )
        self._backoff = Backoff(first_s=0.2, cap_s=2.0, healthy_s=5.0)
        self._recalled = False
        self._looked = float("-inf")
        self._arriving: asyncio.Task[None] | None = None  # waits for the stream to have something new
        self._draining = False
        self.ready = False  # whether its group is there, so that nothing is missed any more
        self.error: str | None = None  # why Redis cannot be used

    @property
    def row(self) -> dict[str, Any]:
        """For people."""
        return self._figures.row(self._outlet.state())

    async def run(self) -> None:
        """Deliver; through Redis' absences too."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._settlement.run())
            for _ in range(self._pace.connections):
                tasks.create_task(self._outlet.send())
            while True:
                try:
                    await self._open()
                    while True:
                        await self._turn(tasks)
                except (RedisError, OSError) as error:
                    self._away(error)
                await asyncio.sleep(self._backoff.next_s())

    async def drain(self) -> None:
        """The end: nothing more is taken up; what is on its way may arrive, and is written down."""
        self._draining = True
        await self._outlet.close(DRAINED_WITHIN_S)
        row = json.dumps(self.row, ensure_ascii=False)

        def write(pipe: Pipeline) -> None:
            pipe.hset(self._keys.state, "row", row)

        self._settlement.add(Settled(then=write))
        await self._settlement.drain(DRAINED_WITHIN_S / 3)

    async def close(self) -> None:
        """Close its connections."""
        await self._poster.close()

    async def _open(self) -> None:
        if not self._recalled:
            row = await self._intake.recall()
            if row is not None:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # of another version
                    self._figures.recall(row)
            self._recalled = True
        self._accept(await self._intake.open())
        self.ready = True

    async def _turn(self, tasks: asyncio.TaskGroup) -> None:
        """Take up what there is room for; wait where there is nothing to take up, or no room."""
        changed = self._bell.next
        if time.monotonic() - self._looked >= LOOKED_EVERY_S:
            await self._look(tasks)
        allowed = room(
            self._outlet.state(),
            in_hand=self._intake.in_hand,
            in_hand_max=self._pace.connections * READ_AHEAD,
            due_in_hand=self._intake.due_in_hand,
        )
        due: tuple[Item, ...] = ()
        if not self._draining and allowed.due and self._intake.next_due <= time.time():
            due = await self._intake.due(allowed.due)
            self._accept(Taken(items=due))
        wanted = 0 if self._draining else allowed.new - len(due)
        if wanted > 0 and self._arriving is None:
            new = await self._intake.new(wanted)
            self._accept(new)
            if new.read:
                return
            self._arriving = asyncio.create_task(self._intake.arrival(LOOKED_EVERY_S))
        if not due:
            await self._rest(changed, self._intake.next_due - time.time() if allowed.due else LOOKED_EVERY_S)

    async def _rest(self, changed: asyncio.Event, within_s: float) -> None:
        """Wait for anything that calls for another turn: a new result, a change of our own, the next that is due."""
        ringing = asyncio.create_task(changed.wait())
        try:
            await asyncio.wait(
                {ringing, *filter(None, [self._arriving])},
                timeout=min(LOOKED_EVERY_S, max(0.0, within_s)),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            ringing.cancel()
        if self._arriving is not None and self._arriving.done():
            arrived, self._arriving = self._arriving, None
            arrived.result()
            await asyncio.sleep(GATHERED_S)

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        """Leave the row in Redis, and see what others have changed there."""
        disablings = self._outlet.disablings
        look = await self._intake.look(json.dumps(self.row, ensure_ascii=False))
        self._figures.backlog(pending=look.pending, retrying=look.retrying)
        # Redis does not know yet of a 410 that is not settled, or came while it was asked.
        if disablings == self._outlet.disablings and not self._settlement.outstanding:
            self._outlet.set_disabled(look.disabled)
        for item in await self._intake.take(look.urgent):
            tasks.create_task(self._outlet.post(item))
        self._looked = time.monotonic()
        self._backoff.healthy(self._looked)
        self.error = None

    def _accept(self, taken: Taken) -> None:
        for entry in taken.unwanted:
            self._settlement.add(Settled(entry=entry))
        for entry in taken.unreadable:
            log.warning("webhook %s: something that is no event stands in the stream; left out", self._webhook.id)
            self._settlement.add(Settled(entry=entry))
        for item in taken.items:
            self._outlet.put(item)
        if taken.missed:
            self._figures.missed(taken.missed)
            log.error(
                "webhook %s: %d results left Redis before they could be delivered: the stream was too short for the "
                "endpoint's absence (raise redis.stream_max_entries), or Redis lost its data",
                self._webhook.id,
                taken.missed,
            )
            self._outlet.announce("webhook_missed", count=taken.missed)

    def _written(self, settled: list[Settled]) -> None:
        for each in settled:
            self._intake.release(each.entry, each.waited)
        self._bell.ring()

    def _away(self, error: Exception) -> None:
        if self.error is None:
            told = redact(str(error)) or type(error).__name__
            self.error = f"Redis cannot be used ({told}); webhooks wait until it can"
            log.warning("webhook %s: %s", self._webhook.id, self.error)
        self._looked = float("-inf")
        if self._arriving is not None:
            self._arriving.add_done_callback(_ignored)
            self._arriving.cancel()
            self._arriving = None


def _ignored(task: asyncio.Task[None]) -> None:
    """Of a task that nobody waits for any more: its error is seen, and of no interest."""
    if not task.cancelled():
        task.exception()
