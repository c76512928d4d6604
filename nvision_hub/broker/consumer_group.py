"""Reader of a Redis stream in a consumer group, with an exact count of the entries that Redis trimmed before delivery.

Redis removes the oldest entries of a long stream, even if a group has not read them. The gap is the number of entries
that Redis trimmed before the group read them. If the stream still holds the last entry that the group read, the gap is
0. Otherwise, the gap is the number of entries ever added, minus the entries in the stream, minus the entries that the
group has read.

Redis' own counter of read entries does not suffice. Redis 7.2 and later forget the gap at the next read, and Redis 7.0
keeps the gap indefinitely. A script therefore computes the gap, corrects the counter and reads entries in one atomic
step.

This module needs Redis 7 or any Valkey. The stream must not lose entries through individual deletion. The hub's result
stream meets this condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from nvision_hub.broker.scripts import load_script

if TYPE_CHECKING:
    import redis.asyncio

_CLAIM_BATCH: Final = 100
_START: Final = b"0-0"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrimmedCount:
    """Numbers of entries that Redis trimmed from the stream before the group acknowledged them."""

    undelivered: int | None = 0  # before the group received them; None if another program created the group
    unacknowledged: int = 0  # after the group received them

    @property
    def known(self) -> int:
        """Number of entries known to be lost."""
        return (self.undelivered or 0) + self.unacknowledged


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryBatch:
    """Entries as (id, fields), oldest first, and the numbers of entries lost to trimming."""

    entries: tuple[tuple[bytes, dict[bytes, bytes]], ...] = ()
    trimmed: TrimmedCount = TrimmedCount()


class ConsumerGroup:
    """One consumer of one group on one stream. The Redis client must not decode responses."""

    def __init__(self, client: redis.asyncio.Redis, *, stream: str, name: str, consumer: str) -> None:
        self._client = client
        self.stream = stream  # key of the stream; callers only read it
        self._name = name
        self._consumer = consumer
        self.read_to = _START  # id of the last entry that the group has read; callers only read it
        self._create = client.register_script(load_script("group_create"))
        self._read = client.register_script(load_script("group_gap", "group_read"))

    async def create(self, *, from_start: bool = False) -> bool:
        """Create the group, and the stream if it is missing. Return False if the group already exists.

        On an existing stream, the group starts with the next new entry. With `from_start`, it starts with the oldest
        entry.
        """
        self.read_to = _START
        try:
            await self._create(keys=[self.stream], args=[self._name, "0" if from_start else "$"])
        except ResponseError as error:
            if str(error).startswith("BUSYGROUP"):
                return False
            raise
        return True

    async def remove(self) -> None:
        """Remove the group and its positions, if the group exists."""
        try:
            await self._client.xgroup_destroy(self.stream, self._name)
        except ResponseError as error:
            if "requires the key to exist" not in str(error):
                raise

    async def read(self, count: int) -> EntryBatch:
        """Return up to `count` new entries and the number of unread entries trimmed since the last read. Does not wait.

        Raises `ResponseError` ("NOGROUP", "no such key") if the group or the stream is missing, for example after Redis
        restarted without its data. The caller should then call `create(from_start=True)`.
        """
        gap, found = await self._read(keys=[self.stream], args=[self._name, self._consumer, count])
        # The script returns each entry as an id and a list of alternating names and values.
        entries = tuple((entry, dict(zip(flat[::2], flat[1::2], strict=True))) for entry, flat in found)
        if entries:
            self.read_to = entries[-1][0]
        return EntryBatch(entries=entries, trimmed=TrimmedCount(undelivered=None if gap < 0 else gap))

    async def wait(self, timeout_s: float, *others: ConsumerGroup) -> None:
        """Wait until this or another group's stream has an unread entry, but at most `timeout_s` seconds."""
        positions: Any = {group.stream: group.read_to for group in (self, *others)}
        await self._client.xread(positions, count=1, block=max(1, int(timeout_s * 1000)))

    async def count_waiting(self) -> int:
        """Return the number of entries that the group has not read or has not acknowledged; 0 if there is no group.

        Call this method once after `create`. `wait` then ignores the entries that the group has already read.
        """
        groups: Any = await self._client.xinfo_groups(self.stream)
        for group in groups:
            if group["name"] == self._name.encode():
                self.read_to = max(self.read_to, group["last-delivered-id"], key=_position)
                return int((group["lag"] or 0) + group["pending"])
        return 0

    async def resume(self, *, idle_s: float = 0.0) -> EntryBatch:
        """Claim every entry that the group received at least `idle_s` ago and has not acknowledged.

        A consumer calls this method when it starts. The call removes all trimmed entries from the group's pending list,
        including the entries that another active consumer received.
        """
        entries: list[tuple[bytes, dict[bytes, bytes]]] = []
        trimmed, at = 0, _START
        while True:
            at, found, gone = await self._client.xautoclaim(
                self.stream, self._name, self._consumer, int(idle_s * 1000), at, count=_CLAIM_BATCH
            )
            entries += ((entry, dict(fields)) for entry, fields in found)
            trimmed += len(gone)
            if at == _START:
                return EntryBatch(entries=tuple(entries), trimmed=TrimmedCount(unacknowledged=trimmed))

    async def acknowledge(self, *entries: bytes) -> None:
        if entries:
            await self._client.xack(self.stream, self._name, *entries)


def _position(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)
