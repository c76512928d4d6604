"""Where one webhook's deliveries come from: new results of its consumer group, and those that wait and are due.

Takes what it is told to take and gives it out once; knows nothing of HTTP, nor why there is room for how many.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.broker import deliveries, delivery_queue
from nvision_hub.broker.delivery_queue import WHATEVER_THE_STATE, Waiting
from nvision_hub.broker.groups import Group

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import redis.asyncio

    from nvision_hub.broker.delivery_queue import Keys
    from nvision_hub.broker.groups import Batch
    from nvision_hub.broker.webhook_filter import WebhookFilter

CONSUMER: Final = "dispatcher"  # always the same: what one process leaves behind is its successor's
_NEVER: Final = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One delivery in hand, and where it came from."""

    entry: bytes | None  # of the stream; None for one that waited
    delivery: Waiting


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What was read."""

    items: tuple[Item, ...] = ()
    unwanted: tuple[bytes, ...] = ()  # entries that the filter leaves out
    unreadable: tuple[bytes, ...] = ()  # entries that are no events
    missed: int = 0  # results trimmed from the stream before they were read or acknowledged

    @property
    def read(self) -> int:
        """How many entries or deliveries it was."""
        return len(self.items) + len(self.unwanted) + len(self.unreadable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What Redis tells of a webhook besides its deliveries."""

    disabled: str | None
    pending: int
    retrying: int
    urgent: tuple[str, ...]  # of those that wait, what is to be tried whatever the state


class Intake:
    """One webhook's. Everything may raise `RedisError` and `OSError`; `open` then begins anew."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, wanted: WebhookFilter, since: datetime) -> None:
        self._client = client
        self._keys = keys
        self._filter = wanted
        self._since = since
        self._group = Group(client, stream=keys.results, name=keys.group, consumer=CONSUMER)
        self._entries: set[bytes] = set()  # in hand, of the stream
        self._ids: set[str] = set()  # in hand, of those that waited
        self._read_to = b"0-0"
        self._known = False
        self._waiting = 0
        self.next_due = _NEVER  # seconds since the epoch, as far as is known

    @property
    def in_hand(self) -> int:
        """How many were given out and are not yet settled."""
        return len(self._entries) + len(self._ids)

    @property
    def due_in_hand(self) -> int:
        """How many of them had waited."""
        return len(self._ids)

    def release(self, entry: bytes | None, waited: str | None) -> None:
        """One that was given out is written down."""
        if entry is not None:
            self._entries.discard(entry)
        if waited is not None:
            self._ids.discard(waited)

    async def open(self) -> Taken:
        """Make sure of the group, and take up again what it was given and never acknowledged.

        A new webhook's group begins with what is added from now on; what came since it was asked for, while this
        process started, is replayed. A group that had been there and is gone, as when Redis comes back empty, is owed
        everything in the stream.
        """
        made = await self._group.create(from_start=self._known)
        lost = self._waiting if made and self._known else 0
        if made and not self._known:
            await deliveries.replay(
                self._client, self._keys.prefix, self._keys.webhook, wanted=self._filter, since=self._since
            )
        if made:
            self._read_to = b"0-0"
        self._known = True
        resumed = self._sort(await self._group.resume())
        return Taken(
            items=resumed.items,
            unwanted=resumed.unwanted,
            unreadable=resumed.unreadable,
            missed=resumed.missed + lost,
        )

    async def new(self, count: int) -> Taken:
        """Up to `count` entries of the stream; does not wait."""
        batch = await self._group.read(count)
        if batch.entries:
            self._read_to = batch.entries[-1][0]
        return self._sort(batch)

    async def arrival(self, within_s: float) -> None:
        """Wait until the stream has something new, `within_s` at most."""
        block_ms = max(1, int(within_s * 1000))
        await self._client.xread({self._keys.results: self._read_to}, count=1, block=block_ms)

    def _sort(self, batch: Batch) -> Taken:
        items, unwanted, unreadable = [], [], []
        for entry, fields in batch.entries:
            if entry in self._entries:
                continue
            self._entries.add(entry)
            try:
                wanted = self._filter.apply(fields[b"camera"].decode(), fields[b"event"])
            except (ValueError, KeyError):
                unreadable.append(entry)
                continue
            if wanted is None:
                unwanted.append(entry)
            else:
                items.append(Item(entry=entry, delivery=Waiting(id=wanted.id, body=wanted.body)))
        return Taken(
            items=tuple(items),
            unwanted=tuple(unwanted),
            unreadable=tuple(unreadable),
            missed=(batch.trimmed.undelivered or 0) + batch.trimmed.unacknowledged,
        )

    async def due(self, count: int) -> tuple[Item, ...]:
        """Up to `count` of those that wait and are due."""
        # Those in hand are in the queue until they are settled, and stand before the others.
        among = len(self._ids) + count + 1
        queued: Any = await self._client.zrange(self._keys.due, 0, among - 1, withscores=True)
        free = [(delivery_id.decode(), at) for delivery_id, at in queued if delivery_id.decode() not in self._ids]
        now = time.time()
        ready = [delivery_id for delivery_id, at in free if at <= now][:count]
        self.next_due = free[len(ready)][1] if len(free) > len(ready) else _NEVER
        return await self.take(ready)

    async def take(self, ids: Iterable[str]) -> tuple[Item, ...]:
        """These of those that wait."""
        wanted = [delivery_id for delivery_id in ids if delivery_id not in self._ids]
        if not wanted:
            return ()
        found: Any = await self._client.hmget(self._keys.waiting, wanted)
        items, broken = [], []
        for delivery_id, data in zip(wanted, found, strict=True):
            try:
                items.append(Item(entry=None, delivery=Waiting.decode(delivery_id, data or b"")))
            except ValueError:
                broken.append(delivery_id)
        if broken:
            async with self._client.pipeline(transaction=True) as pipe:
                delivery_queue.remove(pipe, self._keys, *broken)
                await pipe.execute()
        self._ids.update(item.delivery.id for item in items)
        return tuple(items)

    def will_wait(self, due: float) -> None:
        """One more delivery waits until `due`."""
        self._waiting += 1
        self.next_due = min(self.next_due, due)

    @property
    def waiting(self) -> int:
        """How many wait, as far as is known."""
        return self._waiting

    async def look(self, row: str) -> Look:
        """Leave the row for people, and see what has changed from outside."""
        keys = self._keys
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.hset(keys.state, "row", row)
            pipe.hget(keys.state, "disabled")
            pipe.zcard(keys.due)
            pipe.zrange(keys.due, 0, len(self._ids), withscores=True)
            pipe.xinfo_groups(keys.results)
            _, disabled, self._waiting, queued, groups = await pipe.execute()
        free = [(delivery_id.decode(), at) for delivery_id, at in queued if delivery_id.decode() not in self._ids]
        self.next_due = free[0][1] if free else _NEVER
        group = next((each for each in groups if each["name"] == keys.group.encode()), None)
        pending = 0
        if group is not None:
            self._read_to = max(self._read_to, group["last-delivered-id"], key=_order)
            pending = (group.get("lag") or 0) + group["pending"]
        return Look(
            disabled=None if disabled is None else disabled.decode(errors="replace"),
            pending=pending,
            retrying=self._waiting,
            urgent=tuple(delivery_id for delivery_id, at in free if at == WHATEVER_THE_STATE),
        )

    async def recall(self) -> bytes | None:
        """The row that a predecessor left; None where there is none."""
        row: Any = await self._client.hget(self._keys.state, "row")
        return row if isinstance(row, bytes) else None


def _order(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)
