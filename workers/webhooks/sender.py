"""Sender of one webhook: posts deliveries while the endpoint is healthy, and retries or dead-letters failed deliveries.

The sender owns the endpoint's circuit breaker and disabled state. It announces each change of state,
and logs when deliveries stop or resume.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nvision_hub.broker.webhook_queue import MAX_WAITING, MAX_WAITING_BYTES
from workers.webhooks.breaker import Breaker, EndpointState
from workers.webhooks.webhook_client import CLOUD_EVENT, JSON, Outcome

if TYPE_CHECKING:
    from nvision_hub.broker.webhook_queue import Delivery
    from workers.webhooks.outcome_writer import AckWriter
    from workers.webhooks.settings import DeliveryLimits
    from workers.webhooks.stats import WebhookStats
    from workers.webhooks.webhook_client import Attempt, WebhookClient

log = logging.getLogger("nvision_hub.webhooks")

MAX_WAIT_S: Final = 1.0  # after this time, a sender checks again whether it may send


class DeliverySender:
    """Sender of one webhook's deliveries. Start one `run` task for each connection. Every outcome goes to `acks`."""

    def __init__(self, client: WebhookClient, *, acks: AckWriter, stats: WebhookStats, limits: DeliveryLimits) -> None:
        self._client = client
        self._acks = acks
        self._stats = stats
        self._limits = limits
        self._breaker = Breaker()
        self._reported = EndpointState.ACTIVE
        self._disabled: str | None = None
        self._is_closing = False
        self._in_flight = 0
        self._jitter = random.random
        self.deliveries: asyncio.Queue[Delivery] = asyncio.Queue()  # bounded by the endpoint's capacity
        self.disablings = 0  # number of 410 responses since the start
        self.changed = asyncio.Event()  # `notify` sets this event, then creates a new one; waiters keep the old event

    def notify(self) -> None:
        """Wake all waiters, because their conditions may have changed."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Send one delivery after another while the endpoint is healthy, until canceled."""
        while True:
            delivery = await self.deliveries.get()
            while (wait_s := self._wait_s()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self.changed.wait()
            if not delivery.is_expired(time.time(), self._stats.webhook.max_age):
                self._breaker = self._breaker.sent()
                await self.post(delivery)
            else:
                self._stats.on_expired()
                self._acks.finish(delivery)

    def _wait_s(self) -> float:
        if self._is_closing or self._disabled is not None:
            return MAX_WAIT_S
        return min(MAX_WAIT_S, self._breaker.wait_s(time.monotonic()))

    async def post(self, delivery: Delivery) -> None:
        """Send this delivery now, in any state of the endpoint."""
        self._in_flight += 1
        try:
            content_type = CLOUD_EVENT if delivery.is_cloud_event else JSON
            attempt = await self._client.post(delivery.id, delivery.body, content_type=content_type)
        finally:
            self._in_flight -= 1
        self._stats.on_attempt(attempt)
        match attempt.outcome:
            case Outcome.DELIVERED:
                self._acks.finish(delivery)
                self._set_breaker(self._breaker.succeeded())
            case Outcome.GONE:
                self._disable(delivery, f"the endpoint {attempt.error}")
            case _:
                self._retry(delivery, attempt)
                self._set_breaker(self._breaker.failed(time.monotonic(), rest_s=attempt.retry_after_s))

    def _set_breaker(self, breaker: Breaker) -> None:
        changed, self._breaker = breaker != self._breaker, breaker
        if changed or self._is_closing:
            self.notify()

    def _retry(self, delivery: Delivery, attempt: Attempt) -> None:
        tried = replace(delivery, attempts=delivery.attempts + 1)
        reason = f"{self._stats.webhook.url.shown} {attempt.error}"
        delay = self._limits.delay_s(tried.attempts, retry_after_s=attempt.retry_after_s, jitter=self._jitter())
        due = time.time() + (delay or 0.0)
        is_full = self._acks.queued >= MAX_WAITING or self._acks.queued_bytes >= MAX_WAITING_BYTES
        if tried.once:
            self._acks.finish(tried)
        elif delay is not None and tried.is_expired(due, self._stats.webhook.max_age):
            self._stats.on_expired()
            self._acks.finish(tried)
        elif delay is not None and not (is_full and tried.entry is not None):
            self._acks.requeue(tried, due=due)
        else:
            if delay is not None:
                reason += f"; not retried, because {self._acks.queued} deliveries are already waiting"
            self._stats.on_dead_letter()
            self._acks.dead_letter(tried, reason)

    def _disable(self, delivery: Delivery, reason: str) -> None:
        """Stop sending. The rejected delivery waits in the queue until the webhook is enabled."""
        self._acks.save_state("disabled", reason)
        if delivery.once:
            self._acks.finish(delivery)
        else:
            self._acks.requeue(delivery, due=time.time())
        self.disablings += 1
        self._disabled = reason
        self.notify()

    def set_disabled(self, reason: str | None) -> None:
        """Apply the stored reason why the webhook is disabled. None enables the webhook."""
        if self._disabled != reason:
            if reason is None:
                self._breaker = Breaker()
            self._disabled = reason
            self.notify()

    async def close(self, timeout_s: float) -> None:
        """Stop sending, and wait at most `timeout_s` for the current attempts."""
        self._is_closing = True
        self.notify()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._in_flight:
                    await self.changed.wait()

    def state(self) -> EndpointState:
        """Return the endpoint's current state, and announce it if it has changed."""
        state = EndpointState.DISABLED if self._disabled is not None else self._breaker.state(time.monotonic())
        if state is not self._reported:
            self._report(state)
        return state

    def _report(self, state: EndpointState) -> None:
        before, self._reported = self._reported, state
        webhook, url = self._stats.webhook.id, self._stats.webhook.url.shown
        error = self._disabled or self._stats.row.last_error
        if state is EndpointState.ACTIVE:
            log.info("webhook %s: %s accepts deliveries again", webhook, url, extra={"event": "webhook_recovered"})
        elif state is EndpointState.DISABLED:
            log.warning(
                "webhook %s is disabled: %s; enable it to resume deliveries",
                webhook,
                error,
                extra={"event": "webhook_disabled"},
            )
        elif before is EndpointState.ACTIVE:
            log.warning(
                "webhook %s: %s %s; deliveries are paused", webhook, url, error, extra={"event": "webhook_paused"}
            )
        self._acks.announce("webhook_state", **{"from": before, "state": state, "error": error})
