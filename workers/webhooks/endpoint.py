"""One webhook from end to end: takes up what there is room for, sends it, and decides what becomes of it.

Each has its own group, queue, connections and breaker, so that a dead one delays nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nvision_hub import events
from nvision_hub.backoff import Backoff
from nvision_hub.broker import delivery_queue
from nvision_hub.broker.delivery_queue import WAITING_MAX, Keys
from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.errors import redact
from workers.webhooks.breaker import Breaker, EndpointState, room
from workers.webhooks.figures import Figures
from workers.webhooks.intake import Intake, Item, Taken
from workers.webhooks.poster import Outcome, Poster
from workers.webhooks.schedule import delay_s
from workers.webhooks.settlement import Settled, Settlement

if TYPE_CHECKING:
    import redis.asyncio
    from redis.asyncio.client import Pipeline

    from nvision_hub.config import Webhook
    from nvision_hub.status import Meter
    from workers.webhooks.poster import Try
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
        poster: Poster | None = None,
    ) -> None:
        self._webhook = webhook
        self._site = site
        self._pace = pace
        self._keys = Keys(prefix=prefix, webhook=webhook.id)
        self._intake = Intake(client, self._keys, WebhookFilter.of(webhook.model_dump(mode="json")))
        self._settlement = Settlement(client, self._keys, self._written)
        self._poster = poster or Poster(webhook, connections=pace.connections, timeout_s=pace.timeout_s)
        self._figures = Figures(webhook=webhook, meter=meter)
        self._breaker = Breaker()
        self._disabled: str | None = None
        self._disablings = 0
        self._state = EndpointState.ACTIVE
        self._queue: asyncio.Queue[Item] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._random = random.Random()  # noqa: S311 - jitter
        self._backoff = Backoff(first_s=0.2, cap_s=2.0, healthy_s=5.0)
        self._recalled = False
        self._looked = float("-inf")
        self._arriving: asyncio.Task[None] | None = None  # waits for the stream to have something new
        self._draining = False
        self._in_flight = 0
        self.ready = False  # whether its group is there, so that nothing is missed any more
        self.error: str | None = None  # why Redis cannot be used

    @property
    def row(self) -> dict[str, Any]:
        """For people."""
        return self._figures.row(self._note_state())

    async def run(self) -> None:
        """Deliver; through Redis' absences too."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._settlement.run())
            for _ in range(self._pace.connections):
                tasks.create_task(self._send())
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
        self._note_change()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAINED_WITHIN_S):
                while self._in_flight:
                    await self._change(DRAINED_WITHIN_S)
        row = json.dumps(self.row, ensure_ascii=False)

        def write(pipe: Pipeline) -> None:
            pipe.hset(self._keys.state, "row", row)

        self._settlement.add(Settled(then=write))
        await self._settlement.drain(DRAINED_WITHIN_S / 3)

    async def close(self) -> None:
        """Close its connections."""
        await self._poster.close()

    # What comes in

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
        changed = self._changed
        now = time.monotonic()
        if now - self._looked >= LOOKED_EVERY_S:
            await self._look(tasks)
            self._looked = time.monotonic()
            self._backoff.healthy(now)
            self.error = None
        state = self._note_state()
        in_hand_max = self._pace.connections * READ_AHEAD
        allowed = room(
            state, in_hand=self._intake.in_hand, in_hand_max=in_hand_max, due_in_hand=self._intake.due_in_hand
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
            await self._rest(changed, LOOKED_EVERY_S if not allowed.due else self._intake.next_due - time.time())

    async def _rest(self, changed: asyncio.Event, within_s: float) -> None:
        """Wait for anything that may call for another turn: a new result, a change of our own, the next that is due."""
        waiting = asyncio.create_task(changed.wait())
        try:
            within_s = min(LOOKED_EVERY_S, max(0.0, within_s))
            await asyncio.wait(
                {waiting, *filter(None, [self._arriving])}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()
        if self._arriving is not None and self._arriving.done():
            arrived, self._arriving = self._arriving, None
            arrived.result()
            await asyncio.sleep(GATHERED_S)

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        disablings = self._disablings
        look = await self._intake.look(json.dumps(self.row, ensure_ascii=False))
        self._figures.backlog(pending=look.pending, retrying=look.retrying)
        if disablings == self._disablings and not self._settlement.outstanding:
            if self._disabled is not None and look.disabled is None:
                self._breaker = Breaker()
            self._disabled = look.disabled
            self._note_change()
        for item in await self._intake.take(look.urgent):
            tasks.create_task(self._try(item))

    def _accept(self, taken: Taken) -> None:
        for entry in taken.unwanted:
            self._settlement.add(Settled(entry=entry))
        for entry in taken.unreadable:
            log.warning("webhook %s: something that is no event stands in the stream; left out", self._webhook.id)
            self._settlement.add(Settled(entry=entry))
        for item in taken.items:
            self._queue.put_nowait(item)
        if taken.missed:
            self._figures.missed(taken.missed)
            log.error(
                "webhook %s: %d results left Redis before they could be delivered; the stream is too short for as long "
                "as the endpoint was away, or for as many: raise redis.stream_max_entries",
                self._webhook.id,
                taken.missed,
            )
            self._announce("webhook_missed", count=taken.missed)

    # What goes out

    async def _send(self) -> None:
        while True:
            item = await self._queue.get()
            while (wait_s := self._wait_s(time.monotonic())) > 0:
                await self._change(wait_s)
            self._breaker = self._breaker.sent()
            await self._try(item)

    def _wait_s(self, now: float) -> float:
        if self._draining or self._disabled is not None:
            return LOOKED_EVERY_S
        return min(LOOKED_EVERY_S, self._breaker.wait_s(now))

    async def _try(self, item: Item) -> None:
        self._in_flight += 1
        try:
            result = await self._poster.post(item.delivery.id, item.delivery.body)
        finally:
            self._in_flight -= 1
        self._figures.tried(result)
        self._judge(item, result)
        if self._breaker.rests_until is not None or self._disabled is not None or self._draining:
            self._note_change()

    def _judge(self, item: Item, result: Try) -> None:
        if result.outcome is Outcome.DELIVERED:
            was = self._breaker
            self._breaker = was.succeeded()
            if was.rests_until is not None:
                self._note_change()
            self._finish(item)
            return
        if result.outcome is Outcome.GONE:
            self._disable(item, f"the endpoint {result.error}")
            return
        self._breaker = self._breaker.failed(time.monotonic(), rest_s=result.retry_after_s)
        tried = replace(item.delivery, attempts=item.delivery.attempts + 1)
        delay = delay_s(
            tried.attempts,
            retry_after_s=result.retry_after_s,
            jitter=self._random.random(),
            schedule_s=self._pace.schedule_s,
        )
        reason = f"{self._webhook.url.shown} {result.error}" if result.error else result.outcome
        if tried.once:
            self._finish(item)
        elif delay is None:
            self._bury(item, tried, reason)
        elif item.entry is not None and self._intake.waiting >= WAITING_MAX:
            self._bury(item, tried, f"{reason}; and {WAITING_MAX} deliveries wait already")
        else:
            due = time.time() + delay
            self._finish(item, lambda pipe: delivery_queue.put(pipe, self._keys, tried, due=due), finished=False)
            self._intake.will_wait(due)
            self._note_change()

    def _disable(self, item: Item, reason: str) -> None:
        """Nothing is sent any more; the delivery that was refused is the first one when somebody enables it again."""
        self._disabled = reason
        self._disablings += 1

        def write(pipe: Pipeline) -> None:
            pipe.hset(self._keys.state, "disabled", reason)
            if not item.delivery.once:
                delivery_queue.put(pipe, self._keys, item.delivery, due=time.time())

        self._finish(item, write, finished=item.delivery.once)
        self._note_change()

    def _bury(self, item: Item, tried: delivery_queue.Waiting, reason: str) -> None:
        self._figures.buried()
        self._finish(item, lambda pipe: delivery_queue.bury(pipe, self._keys, tried, reason=reason))

    def _finish(self, item: Item, then: Any = None, *, finished: bool = True) -> None:
        waited = item.delivery.id if item.entry is None else None
        self._settlement.add(Settled(entry=item.entry, waited=waited, finished=finished, then=then))

    def _written(self, settled: list[Settled]) -> None:
        for each in settled:
            self._intake.release(each.entry, each.waited)
        self._note_change()

    # What is told

    def _note_state(self) -> EndpointState:
        state = EndpointState.DISABLED if self._disabled is not None else self._breaker.state(time.monotonic())
        if state is not self._state:
            before, self._state = self._state, state
            error = self._disabled or self._figures.last_error
            if state is EndpointState.ACTIVE:
                log.info("webhook %s: %s takes deliveries again", self._webhook.id, self._webhook.url.shown)
            elif state is EndpointState.DISABLED:
                log.warning(
                    "webhook %s is disabled: %s; once it should have results again, enable it", self._webhook.id, error
                )
            elif before is EndpointState.ACTIVE:
                log.warning(
                    "webhook %s: %s %s; left alone for a while", self._webhook.id, self._webhook.url.shown, error
                )
            self._announce("webhook_state", **{"from": before, "state": state, "error": error})
        return state

    def _announce(self, kind: str, **told: Any) -> None:
        news = {"id": events.new_id(), "kind": kind, "site": self._site, "webhook": self._webhook.id, **told}
        payload = events.encode(news)

        def write(pipe: Pipeline) -> None:
            pipe.publish(f"{self._keys.prefix}:events", payload)

        self._settlement.add(Settled(then=write))

    def _away(self, error: Exception) -> None:
        if self.error is None:
            self.error = (
                f"Redis cannot be used ({redact(str(error)) or type(error).__name__}); webhooks wait until it can"
            )
            log.warning("webhook %s: %s", self._webhook.id, self.error)
        self._looked = float("-inf")
        if self._arriving is not None:
            self._arriving.add_done_callback(_ignored)
            self._arriving.cancel()
            self._arriving = None

    # Waiting

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, within_s: float) -> None:
        changed = self._changed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await changed.wait()


def _ignored(task: asyncio.Task[None]) -> None:
    """Of a task that nobody waits for any more: its error is seen, and of no interest."""
    if not task.cancelled():
        task.exception()
