"""Delivery pipeline of one webhook, from Redis to HTTP.

Each webhook has its own consumer group, queue, connections and breaker, so a failed endpoint delays no other endpoint.

    consumer -> queue of deliveries -> sender -> acks -> (written) -> consumer.release
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.backoff import Backoff
from nvision_hub.broker.failures import failure_reason
from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.broker.webhook_queue import WebhookKeys
from workers.webhooks.consumer import DeliveryConsumer
from workers.webhooks.outcome_writer import AckWriter
from workers.webhooks.sender import DeliverySender
from workers.webhooks.stats import WebhookStats
from workers.webhooks.webhook_client import WebhookClient

if TYPE_CHECKING:
    import redis.asyncio

    from nvision_hub.config.models import Webhook
    from nvision_hub.metrics.meter import Meter
    from nvision_hub.runtime.status import WebhookSummary
    from workers.webhooks.outcome_writer import Ack
    from workers.webhooks.settings import WebhooksSettings

log = logging.getLogger("nvision_hub.webhooks")

READ_AHEAD: Final = 4  # deliveries in hand per connection, including those that wait for a connection or for Redis
SYNC_INTERVAL_S: Final = 1.0
BATCH_DELAY_S: Final = 0.005  # pause after a result arrives, so that the next results join its batch
DRAIN_TIMEOUT_S: Final = 1.5


class Endpoint:
    """The pipeline of one webhook. The caller starts `run` as a task."""

    def __init__(
        self, webhook: Webhook, settings: WebhooksSettings, *, client: redis.asyncio.Redis, meter: Meter
    ) -> None:
        limits = settings.limits
        keys = WebhookKeys(settings.stream.prefix, webhook.id)
        self._connections = limits.connections
        self._stats = WebhookStats(webhook, meter)
        self._acks = AckWriter(client, keys, site=settings.site)
        self._client = WebhookClient(webhook, connections=limits.connections, timeout_s=limits.timeout_s)
        self._sender = DeliverySender(self._client, acks=self._acks, stats=self._stats, limits=limits)
        self._consumer = DeliveryConsumer(
            client,
            keys,
            event_filter=WebhookFilter.of(webhook.model_dump(mode="json")),
            since=settings.since,
            deliveries=self._sender.deliveries,
            acks=self._acks,
            stats=self._stats,
        )
        self._backoff = Backoff(first_s=0.2, cap_s=2.0, healthy_s=5.0)
        self._synced_at = float("-inf")
        self._arrival: asyncio.Task[None] | None = None  # waits for a new entry in the stream
        self._draining = False
        self.ready = False  # whether the consumer group exists, so that the webhook misses no result
        self.error: str | None = None  # why Redis cannot be used; None while it can be used

    @property
    def row(self) -> WebhookSummary:
        """Current state of the webhook for display."""
        return self._stats.current_row(self._sender.state())

    async def run(self) -> None:
        """Deliver until canceled, and retry during outages of Redis."""
        async with contextlib.aclosing(self._client), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._acks.run(self._on_written))
            for _ in range(self._connections):
                tasks.create_task(self._sender.run())
            while True:
                try:
                    await self._consumer.open()
                    self.ready = True
                    while True:
                        await self._step(tasks)
                except (RedisError, OSError) as error:
                    self._on_redis_error(error)
                await asyncio.sleep(self._backoff.next_s())

    async def drain(self) -> None:
        """Stop reading and sending, wait for the current attempts, and write their outcomes."""
        self._draining = True
        await self._sender.close(DRAIN_TIMEOUT_S)
        self._acks.save_state("row", self._row_json())
        with contextlib.suppress(TimeoutError):  # the next process repeats deliveries without a written outcome
            async with asyncio.timeout(DRAIN_TIMEOUT_S / 3):
                while self._acks.unwritten:
                    await self._sender.changed.wait()

    def _row_json(self) -> str:
        return json.dumps(asdict(self.row), ensure_ascii=False)

    async def _step(self, tasks: asyncio.TaskGroup) -> None:
        """Read as many deliveries as the capacity allows. Without deliveries or capacity, wait for a change."""
        changed = self._sender.changed
        if time.monotonic() - self._synced_at >= SYNC_INTERVAL_S:
            await self._sync(tasks)
        free = self._consumer.capacity(self._sender.state(), self._connections * READ_AHEAD)
        due = 0
        if not self._draining and free.due and self._consumer.next_due <= time.time():
            due = await self._consumer.read_due(free.due)
        if not self._draining and free.new > due and self._arrival is None:
            if await self._consumer.read_new(free.new - due):
                return
            self._arrival = asyncio.create_task(self._consumer.wait(SYNC_INTERVAL_S))
            self._arrival.add_done_callback(self._on_arrival)
        if not due:
            await self._wait(changed, self._consumer.next_due - time.time() if free.due else SYNC_INTERVAL_S)

    async def _wait(self, changed: asyncio.Event, timeout_s: float) -> None:
        """Wait until `changed` is set or the time is up. If a result has arrived, wait for the rest of its batch."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(SYNC_INTERVAL_S, max(0.0, timeout_s))):
                await changed.wait()
        if self._arrival is not None and self._arrival.done():
            arrival, self._arrival = self._arrival, None
            arrival.result()
            await asyncio.sleep(BATCH_DELAY_S)

    async def _sync(self, tasks: asyncio.TaskGroup) -> None:
        """Save the display row in Redis, and apply changes that other programs made in Redis."""
        disablings = self._sender.disablings
        disabled, urgent = await self._consumer.sync(self._row_json())
        # The reply does not reflect a 410 response that is still unwritten or that arrived during the request.
        if disablings == self._sender.disablings and not self._acks.unwritten:
            self._sender.set_disabled(disabled)
        for delivery in await self._consumer.read_queued(urgent):
            tasks.create_task(self._sender.post(delivery))
        self._synced_at = time.monotonic()
        self._backoff.healthy(self._synced_at)
        self.error = None

    def _on_arrival(self, arrival: asyncio.Task[None]) -> None:
        if not arrival.cancelled():
            arrival.exception()  # retrieves the error; otherwise, asyncio logs the error of an abandoned task
        self._sender.notify()

    def _on_written(self, acks: list[Ack]) -> None:
        self._consumer.release(acks)
        self._sender.notify()

    def _on_redis_error(self, error: Exception) -> None:
        if self.error is None:
            reason = failure_reason(error)
            self.error = f"Redis cannot be used ({reason}); deliveries wait until Redis is available"
            webhook = self._stats.webhook.id
            log.warning("webhook %s: %s", webhook, self.error, extra={"event": "webhook_redis_unavailable"})
        self._synced_at = float("-inf")
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None
