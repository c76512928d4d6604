"""What one webhook sends: when each delivery may go, and what becomes of it. Knows not where deliveries come from."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from nvision_hub import events
from nvision_hub.broker import delivery_queue
from nvision_hub.broker.delivery_queue import WAITING_MAX
from workers.webhooks.breaker import Breaker, EndpointState
from workers.webhooks.poster import Outcome
from workers.webhooks.schedule import delay_s
from workers.webhooks.settlement import Settled

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.client import Pipeline

    from nvision_hub.broker.delivery_queue import Keys, Waiting
    from nvision_hub.config import Webhook
    from workers.webhooks.bell import Bell
    from workers.webhooks.figures import Figures
    from workers.webhooks.intake import Intake, Item
    from workers.webhooks.poster import Poster, Try
    from workers.webhooks.schedule import Pace
    from workers.webhooks.settlement import Settlement

log = logging.getLogger("nvision_hub.webhooks")

WAITS_MOST_S: Final = 1.0  # until it is looked again whether a delivery may go


class Outlet:
    """One webhook's. `send` is a task of its own for each connection."""

    def __init__(  # noqa: PLR0917 - its endpoint's parts, named alike there
        self,
        webhook: Webhook,
        keys: Keys,
        intake: Intake,
        settlement: Settlement,
        figures: Figures,
        poster: Poster,
        bell: Bell,
        *,
        site: str,
        pace: Pace,
    ) -> None:
        self._webhook = webhook
        self._keys = keys
        self._intake = intake
        self._settlement = settlement
        self._figures = figures
        self._poster = poster
        self._bell = bell
        self._site = site
        self._pace = pace
        self._queue: asyncio.Queue[Item] = asyncio.Queue()  # bounded by the room that the endpoint gives
        self._random = random.Random()  # noqa: S311 - jitter
        self._breaker = Breaker()
        self._state = EndpointState.ACTIVE
        self._disabled: str | None = None
        self._in_flight = 0
        self._closing = False
        self.disablings = 0  # by a 410, since the start

    def put(self, item: Item) -> None:
        """To be sent when it may."""
        self._queue.put_nowait(item)

    async def send(self) -> None:
        """Send one after another, for ever."""
        while True:
            item = await self._queue.get()
            while (wait_s := self._wait_s(time.monotonic())) > 0:
                await self._bell.wait(wait_s)
            self._breaker = self._breaker.sent()
            await self.post(item)

    def _wait_s(self, now: float) -> float:
        if self._closing or self._disabled is not None:
            return WAITS_MOST_S
        return min(WAITS_MOST_S, self._breaker.wait_s(now))

    async def post(self, item: Item) -> None:
        """Send this one, whatever the state."""
        self._in_flight += 1
        try:
            result = await self._poster.post(item.delivery.id, item.delivery.body)
        finally:
            self._in_flight -= 1
        was = self._breaker
        self._figures.tried(result)
        self._judge(item, result)
        if self._breaker != was or self._closing:
            self._bell.ring()

    async def close(self, within_s: float) -> None:
        """Send no more; wait `within_s` at most for what is on its way."""
        self._closing = True
        self._bell.ring()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._in_flight:
                    await self._bell.wait(within_s)

    # What becomes of a delivery

    def _judge(self, item: Item, result: Try) -> None:
        if result.outcome is Outcome.DELIVERED:
            self._breaker = self._breaker.succeeded()
            self._finish(item)
        elif result.outcome is Outcome.GONE:
            self._disable(item, f"the endpoint {result.error}")
        else:
            self._breaker = self._breaker.failed(time.monotonic(), rest_s=result.retry_after_s)
            self._failed(item, result)

    def _failed(self, item: Item, result: Try) -> None:
        tried = replace(item.delivery, attempts=item.delivery.attempts + 1)
        reason = f"{self._webhook.url.shown} {result.error}"
        delay = delay_s(
            tried.attempts,
            retry_after_s=result.retry_after_s,
            jitter=self._random.random(),
            schedule_s=self._pace.schedule_s,
        )
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
            self._bell.ring()

    def _disable(self, item: Item, reason: str) -> None:
        """Nothing is sent any more; the delivery that was refused is the first one when somebody enables it again."""
        self._disabled = reason
        self.disablings += 1

        def write(pipe: Pipeline) -> None:
            pipe.hset(self._keys.state, "disabled", reason)
            if not item.delivery.once:
                delivery_queue.put(pipe, self._keys, item.delivery, due=time.time())

        self._finish(item, write, finished=item.delivery.once)
        self._bell.ring()

    def _bury(self, item: Item, tried: Waiting, reason: str) -> None:
        self._figures.buried()
        self._finish(item, lambda pipe: delivery_queue.bury(pipe, self._keys, tried, reason=reason))

    def _finish(self, item: Item, then: Callable[[Pipeline], None] | None = None, *, finished: bool = True) -> None:
        waited = item.delivery.id if item.entry is None else None
        self._settlement.add(Settled(entry=item.entry, waited=waited, finished=finished, then=then))

    # Its state

    def set_disabled(self, reason: str | None) -> None:
        """As Redis has it, where somebody may have enabled it meanwhile; None while it is not disabled."""
        if self._disabled == reason:
            return
        if reason is None:
            self._breaker = Breaker()
        self._disabled = reason
        self._bell.ring()

    def state(self) -> EndpointState:
        """Where it stands now; a change is logged and announced."""
        state = EndpointState.DISABLED if self._disabled is not None else self._breaker.state(time.monotonic())
        if state is not self._state:
            self._enter(state)
        return state

    def _enter(self, state: EndpointState) -> None:
        before, self._state = self._state, state
        name, where = self._webhook.id, self._webhook.url.shown
        error = self._disabled or self._figures.last_error
        if state is EndpointState.ACTIVE:
            log.info("webhook %s: %s takes deliveries again", name, where)
        elif state is EndpointState.DISABLED:
            log.warning("webhook %s is disabled: %s; once it should have results again, enable it", name, error)
        elif before is EndpointState.ACTIVE:
            log.warning("webhook %s: %s %s; left alone for a while", name, where, error)
        self.announce("webhook_state", **{"from": before, "state": state, "error": error})

    def announce(self, kind: str, **told: Any) -> None:
        """News of the webhook, for whoever listens now."""
        news = {"id": events.new_id(), "kind": kind, "site": self._site, "webhook": self._webhook.id, **told}
        payload = events.encode(news)

        def write(pipe: Pipeline) -> None:
            pipe.publish(f"{self._keys.prefix}:events", payload)

        self._settlement.add(Settled(then=write))
