"""Writer of delivery outcomes to Redis. Each transaction writes one batch.

A delivery stays in the consumer group or in the queue until its outcome is written. If the process dies earlier, its
successor sends the delivery again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nvision_hub.backoff import Backoff
from nvision_hub.broker import webhook_queue
from nvision_hub.nvision import result_events
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import redis.asyncio
    from redis.asyncio.client import Pipeline

    from nvision_hub.broker.webhook_queue import Delivery, StreamEntry, WebhookKeys

    AddCommands = Callable[[Pipeline], object]

log = logging.getLogger("nvision_hub.webhooks")

WRITE_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ack:
    """Outcome of one delivery, or another change to write to Redis."""

    entry: StreamEntry | None = None  # to acknowledge; None if the delivery came from the queue
    queued_id: str | None = None  # webhook-id; None unless the delivery came from the queue
    due: float | None = None  # time of the next attempt, in seconds since the epoch; None if there is none
    write: AddCommands | None = None  # adds further commands to the transaction


class AckWriter:
    """Writer for one webhook. The caller starts `run` as a task. The other methods never wait."""

    def __init__(self, client: redis.asyncio.Redis, keys: WebhookKeys, *, site: str) -> None:
        self._client = client
        self._keys = keys
        self._site = site
        self.queued = 0  # deliveries in the queue, as far as known
        self.queued_bytes = 0  # memory that they take in Redis, as far as known
        self.unwritten: list[Ack] = []
        self._arrived = asyncio.Event()
        self._backoff = Backoff(first_s=0.1, cap_s=2.0, healthy_s=5.0)

    def finish(self, delivery: Delivery) -> None:
        """Remove a delivery from Redis."""
        self._settle(delivery)

    def requeue(self, delivery: Delivery, *, due: float) -> None:
        """Put a delivery into the queue until `due`, in seconds since the epoch."""
        if delivery.entry is not None:
            self.queued_bytes += len(delivery.body)
        self._settle(delivery, lambda pipe: webhook_queue.put(pipe, self._keys, delivery, due=due), due=due)

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        self._settle(
            delivery, lambda pipe: webhook_queue.move_to_dead_letters(pipe, self._keys, delivery, reason=reason)
        )

    def _settle(self, delivery: Delivery, write: AddCommands | None = None, *, due: float | None = None) -> None:
        queued_id = delivery.id if delivery.entry is None else None
        self._add(Ack(entry=delivery.entry, queued_id=queued_id, due=due, write=write))

    def skip(self, entry: StreamEntry) -> None:
        """Acknowledge a stream entry that needs no delivery."""
        self._add(Ack(entry=entry))

    def save_begun(self, *, added: Iterable[str] = (), removed: Iterable[str] = ()) -> None:
        """Save changes of the tracks and stays in zones whose end the webhook must receive."""
        added, removed = tuple(added), tuple(removed)
        if added:
            self._add(Ack(write=lambda pipe: pipe.sadd(self._keys.begun, *added)))
        if removed:
            self._add(Ack(write=lambda pipe: pipe.srem(self._keys.begun, *removed)))

    def announce(self, kind: str, **fields: Any) -> None:
        """Publish a hub event about the webhook."""
        event = {"id": result_events.new_id(), "kind": kind, "site": self._site, "webhook": self._keys.webhook}
        payload = result_events.encode(event | fields)
        self._add(Ack(write=lambda pipe: pipe.publish(self._keys.events, payload)))

    def save_state(self, field: str, value: str) -> None:
        """Save a field of the webhook's state: `row` or `disabled`."""
        self._add(Ack(write=lambda pipe: pipe.hset(self._keys.state, field, value)))

    def _add(self, ack: Ack) -> None:
        self.unwritten.append(ack)
        self._arrived.set()

    async def run(self, on_written: Callable[[list[Ack]], None]) -> None:
        """Write outcomes until canceled, and retry during outages of Redis."""
        while True:
            await self._arrived.wait()
            batch = list(self.unwritten)
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self._write(batch)
            except (RedisError, OSError) as error:
                log.debug("webhook %s: outcomes not written: %s; retrying", self._keys.webhook, redact(str(error)))
                await asyncio.sleep(self._backoff.next_s())
                continue
            self._backoff.healthy(asyncio.get_running_loop().time())
            del self.unwritten[: len(batch)]
            if not self.unwritten:
                self._arrived.clear()
            added = sum(ack.due is not None and ack.queued_id is None for ack in batch)
            removed = sum(ack.due is None and ack.queued_id is not None for ack in batch)
            self.queued = max(0, self.queued + added - removed)
            on_written(batch)

    async def _write(self, batch: list[Ack]) -> None:
        async with self._client.pipeline(transaction=True) as pipe:
            entries: dict[str, list[bytes]] = {}
            for ack in batch:
                if ack.entry is not None:
                    entries.setdefault(ack.entry.stream, []).append(ack.entry.id)
            for stream, ids in entries.items():
                pipe.xack(stream, self._keys.group, *ids)
            if done := [ack.queued_id for ack in batch if ack.queued_id is not None and ack.due is None]:
                webhook_queue.remove(pipe, self._keys, *done)
            for ack in batch:
                if ack.write is not None:
                    ack.write(pipe)
            await pipe.execute()
