"""Source of one webhook's deliveries: new events from its consumer groups, and due deliveries from its queue.

The webhook has a group on each stream that has events for it.

A delivery is "in hand" from the moment it is read until `release` is called, after its outcome has been written. During
this time, the consumer does not read the delivery again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoPermissionError

from nvision_hub.broker import webhook_admin, webhook_queue
from nvision_hub.broker.consumer_group import ConsumerGroup
from nvision_hub.broker.webhook_filter import STREAMS
from nvision_hub.broker.webhook_queue import DUE_IN_ANY_STATE, Delivery, StreamEntry
from workers.webhooks.breaker import capacity

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable
    from datetime import datetime

    import redis.asyncio

    from nvision_hub.broker.consumer_group import EntryBatch
    from nvision_hub.broker.webhook_filter import Stream, WebhookFilter
    from nvision_hub.broker.webhook_queue import WebhookKeys
    from workers.webhooks.breaker import Capacity, EndpointState
    from workers.webhooks.outcome_writer import Ack, AckWriter
    from workers.webhooks.stats import WebhookStats

log = logging.getLogger("nvision_hub.webhooks")

CONSUMER: Final = "dispatcher"  # constant, so a process inherits the pending entries of its predecessor
_MAX_REASON_BYTES: Final = 1000
_MAX_BEGUN: Final = 10_000  # above this limit, the consumer forgets the oldest
_NEVER: Final = float("inf")


class DeliveryConsumer:
    """Reader that puts one webhook's deliveries into the queue `deliveries`.

    Methods may raise `RedisError` and `OSError`. After an error, call `open` again.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: WebhookKeys,
        *,
        event_filter: WebhookFilter,
        since: datetime,
        deliveries: asyncio.Queue[Delivery],
        acks: AckWriter,
        stats: WebhookStats,
    ) -> None:
        self._client = client
        self._keys = keys
        self._filter = event_filter
        self._since = since
        self._deliveries = deliveries
        self._acks = acks
        self._stats = stats
        self._groups: dict[Stream, ConsumerGroup] = {stream: self._group(stream) for stream in event_filter.streams}
        self._turns = deque(self._groups)  # the stream to read first comes first
        self._created: set[Stream] = set()  # whose groups are new; empty after `open` has succeeded
        self._entries: set[StreamEntry] = set()  # stream entries in hand
        self._begun: dict[str, None] = {}  # tracks and stays in zones whose end the webhook must receive, oldest first
        self._ends: dict[StreamEntry, str] = {}  # which of them end with an entry in hand
        self._ids: set[str] = set()  # webhook-ids of deliveries in hand that came from the queue
        self._was_open = False
        self.next_due = _NEVER  # due time of the next queued delivery, in seconds since the epoch, as far as known

    def _group(self, stream: Stream) -> ConsumerGroup:
        keys = self._keys
        return ConsumerGroup(self._client, stream=f"{keys.prefix}:{stream}", name=keys.group, consumer=CONSUMER)

    def capacity(self, state: EndpointState, in_hand_max: int) -> Capacity:
        """Return how many deliveries may be read now if at most `in_hand_max` may be in hand."""
        in_hand = len(self._entries) + len(self._ids)
        return capacity(state, in_hand=in_hand, in_hand_max=in_hand_max, due_in_hand=len(self._ids))

    def release(self, acks: Iterable[Ack]) -> None:
        """Forget deliveries whose outcomes have been written."""
        for ack in acks:
            if ack.entry is not None:
                self._entries.discard(ack.entry)
                ended = self._ends.pop(ack.entry, None)
                if ended is not None and ended not in self._begun:  # the object may have entered the zone again
                    self._acks.save_begun(removed=[ended])
            if ack.queued_id is not None:
                self._ids.discard(ack.queued_id)
            if ack.due is not None:
                self.next_due = min(self.next_due, ack.due)

    async def open(self) -> None:
        """Create missing groups, and read entries that were received before but never acknowledged.

        The groups of a new webhook start with the next event. The events from `since` until now are replayed. A group
        that has disappeared, for example because Redis lost its data, starts at the beginning of the stream.
        """
        keys = self._keys
        if not self._was_open:
            await self._remove_groups([stream for stream in STREAMS if stream not in self._groups])
            # An attempt has failed before the replay, which now includes what these groups would deliver.
            await self._remove_groups(self._created)
        for stream, group in self._groups.items():
            if await group.create(from_start=self._was_open):
                self._created.add(stream)
        if not self._was_open:
            known: Any = await self._client.srandmember(keys.begun, _MAX_BEGUN)
            self._begun = {each.decode(errors="replace"): None for each in known}
            if self._created:
                await self._replay(self._filter.only(self._created))
            self._stats.restore(await self._client.hget(keys.state, "row"))
            self._was_open = True
        elif self._created:
            await self._count_lost_deliveries()
        self._created.clear()
        for stream, group in self._groups.items():
            self._accept(stream, await group.resume(), is_resumed=True)

    async def _replay(self, wanted: WebhookFilter) -> None:
        """Queue the events since the webhook was configured."""
        keys, begun = self._keys, dict(self._begun)
        await webhook_admin.replay(
            self._client,
            keys.prefix,
            keys.webhook,
            wanted=wanted,
            since=self._since,
            any_age=False,
            max_age=self._stats.webhook.max_age,
            begun=begun,
        )
        kept = dict(list(begun.items())[-_MAX_BEGUN:])
        self._acks.save_begun(added=kept.keys() - self._begun.keys(), removed=self._begun.keys() - kept.keys())
        self._begun = kept

    async def _remove_groups(self, streams: Iterable[Stream]) -> None:
        """Remove the webhook's groups on streams, for example on those from which the webhook no longer reads.

        If the webhook reads one of these streams again later, its group would deliver old events, and report those that
        Redis has trimmed as missed.
        """
        for stream in streams:
            with contextlib.suppress(NoPermissionError):  # the hub's user in Redis may be restricted
                await self._group(stream).remove()

    async def _count_lost_deliveries(self) -> None:
        """Count the deliveries that Redis has lost from the queue. The consumer still has those in hand."""
        left = await self._client.zcard(self._keys.due)
        lost, self._acks.queued = self._acks.queued - left - len(self._ids), left
        if lost > 0:
            self._stats.on_missed(lost)
            log.error(
                "webhook %s: %d deliveries in the queue were lost: Redis lost its data",
                self._keys.webhook,
                lost,
                extra={"event": "webhook_deliveries_lost"},
            )
            self._acks.announce("webhook_missed", count=lost)

    async def read_new(self, count: int) -> bool:
        """Read up to `count` entries of the streams without waiting, and return whether there were any.

        Each call starts with another stream, so that a busy stream delays no other stream.
        """
        found = 0
        for stream in tuple(self._turns):
            if found < count:
                batch = await self._groups[stream].read(count - found)
                self._accept(stream, batch)
                found += len(batch.entries)
        self._turns.rotate()
        return found > 0

    async def wait(self, timeout_s: float) -> None:
        """Wait at most `timeout_s` seconds until a stream has an unread entry."""
        first, *others = self._groups.values()
        await first.wait(timeout_s, *others)

    def _accept(self, stream: Stream, batch: EntryBatch, *, is_resumed: bool = False) -> None:
        """Take entries in hand. They may already have been sent if `is_resumed`."""
        for entry_id, fields in batch.entries:
            entry = StreamEntry(self._groups[stream].stream, entry_id)
            if entry in self._entries:
                continue
            self._entries.add(entry)
            try:
                delivery = self._filter.apply(stream, fields[b"camera"].decode(), fields[b"event"], self._begun)
            except (ValueError, KeyError):
                log.warning(
                    "webhook %s: skipped a stream entry that is not an event",
                    self._keys.webhook,
                    extra={"event": "webhook_entry_unreadable"},
                )
                self._stats.on_rejected(stream, 1)
                delivery = None
            is_expired = delivery is not None and delivery.is_expired(time.time(), self._stats.webhook.max_age)
            if delivery is not None and (is_resumed or not is_expired):
                self._remember(delivery, entry)
            if delivery is None or is_expired:
                if is_expired:
                    self._stats.on_expired()
                self._acks.skip(entry)
            else:
                self._deliveries.put_nowait(replace(delivery, entry=entry))
        if missed := batch.trimmed.known:
            self._stats.on_missed(missed)
            log.error(
                "webhook %s: %d events of the stream %s were lost before their delivery: the stream was too short for "
                "the endpoint's outage (raise redis.stream_max_entries or redis.stream_max_bytes), or Redis lost its "
                "data",
                self._keys.webhook,
                missed,
                stream,
                extra={"event": "webhook_results_missed"},
            )
            self._acks.announce("webhook_missed", count=missed)

    def _remember(self, delivery: Delivery, entry: StreamEntry) -> None:
        """Remember which tracks and stays in zones the delivery begins or ends.

        A beginning is saved before the delivery is acknowledged, and an end afterwards. If the process is killed, its
        successor therefore delivers the end. An event that is too old begins nothing, unless it may have been sent.
        """
        if delivery.ends in self._begun:
            del self._begun[delivery.ends]
            self._ends[entry] = delivery.ends
        added = [key for key in delivery.begins if key not in self._begun]
        self._begun |= dict.fromkeys(added)
        removed = list(self._begun)[: max(0, len(self._begun) - _MAX_BEGUN)]
        for key in removed:
            del self._begun[key]
        self._acks.save_begun(added=added, removed=removed)

    async def read_due(self, count: int) -> int:
        """Read up to `count` due deliveries of the queue, and return their number."""
        # The deliveries in hand are still in the queue and come first.
        last = len(self._ids) + count  # includes one more delivery, for `next_due`
        queued: Any = await self._client.zrange(self._keys.due, 0, last, withscores=True)
        free = self._not_in_hand(queued)
        now = time.time()
        ready = [delivery_id for delivery_id, at in free if at <= now][:count]
        self.next_due = free[len(ready)][1] if len(free) > len(ready) else _NEVER
        deliveries = await self.read_queued(ready)
        for delivery in deliveries:
            self._deliveries.put_nowait(delivery)
        return len(deliveries)

    async def read_queued(self, ids: list[str]) -> list[Delivery]:
        """Return queued deliveries by id, and remove unreadable ones. No delivery with these ids may be in hand."""
        if not ids:
            return []
        found: Any = await self._client.hmget(self._keys.waiting, [_key(each) for each in ids])
        deliveries, broken = [], []
        for delivery_id, data in zip(ids, found, strict=True):
            try:
                deliveries.append(Delivery.decode(delivery_id, data or b""))
            except ValueError:
                broken.append((_key(delivery_id), data or b""))
        if broken:
            async with self._client.pipeline(transaction=True) as pipe:
                for key, data in broken:
                    webhook_queue.set_aside(pipe, self._keys, key, data)
                await pipe.execute()
            self._stats.on_rejected("webhook_queue", len(broken))
            log.warning(
                "webhook %s: %d entries of the queue are not deliveries; moved to the dead letters",
                self._keys.webhook,
                len(broken),
                extra={"event": "webhook_entry_unreadable"},
            )
        self._ids.update(delivery.id for delivery in deliveries)
        return deliveries

    async def sync(self, row: str) -> tuple[str | None, list[str]]:
        """Save the display row, and read the changes that other programs made in Redis.

        Return the reason why the webhook is disabled (None if it is enabled), and the ids of the queued deliveries that
        are due in any state of the endpoint.
        """
        keys = self._keys
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.hset(keys.state, "row", row)
            pipe.hget(keys.state, "disabled")
            pipe.zcard(keys.due)
            pipe.zrange(keys.due, 0, len(self._ids), withscores=True)
            _, disabled, retrying, queued = await pipe.execute()
        free = self._not_in_hand(queued)
        self.next_due = free[0][1] if free else _NEVER
        # If this raises an error because a stream is gone, `open` needs the earlier number of queued deliveries.
        pending = sum([await group.count_waiting() for group in self._groups.values()])
        self._acks.queued, self._acks.queued_bytes = retrying, await webhook_queue.waiting_bytes(self._client, keys)
        self._stats.set_waiting(pending=pending, retrying=retrying)
        urgent = [delivery_id for delivery_id, at in free if at == DUE_IN_ANY_STATE]
        reason = None if disabled is None else disabled[:_MAX_REASON_BYTES].decode(errors="replace")
        return reason, urgent

    def _not_in_hand(self, queued: list[tuple[bytes, float]]) -> list[tuple[str, float]]:
        found = [(key.decode("ascii", errors="surrogateescape"), at) for key, at in queued]
        return [(delivery_id, at) for delivery_id, at in found if delivery_id not in self._ids]


def _key(delivery_id: str) -> bytes:
    """Return the key of a queued delivery as stored in Redis. Another program may have written any bytes there."""
    return delivery_id.encode("ascii", errors="surrogateescape")
