"""Reading a stream as a consumer group, with an exact count of what was trimmed before the group had it.

A stream is trimmed by its length, whoever still needs it. Redis tells how many entries were ever added and how many are
left, so how many are gone; where a group's last entry is gone too, the difference to what the group has read is what it
will never get. Redis keeps no account of that: its own counter forgets the gap with the next read (7.2 and later) or
drags it along for ever (7.0). So the gap is counted, and the counter put right, in one step with the reading: a script.

It needs Redis 7 or any Valkey, and a stream from which nobody takes single entries, as the hub's is. Knows nothing of
events, and nothing of what is done with them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    import redis.asyncio

_CLAIMED_AT_ONCE: Final = 100

# XINFO STREAM, XINFO GROUPS: both are lists of names and values by turns.
_POSITION: Final = """
local function named(list)
  local found = {}
  for at = 1, #list, 2 do found[list[at]] = list[at + 1] end
  return found
end
local stream = named(redis.call('XINFO', 'STREAM', KEYS[1]))
local gone = stream['entries-added'] - stream['length']
local first = stream['first-entry'] and stream['first-entry'][1]
"""

# How many of the entries that are gone the group was never given; and -1 where Redis does not know what it has read.
_GAP: Final = (
    _POSITION
    + """
local group
for _, each in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local candidate = named(each)
  if candidate['name'] == ARGV[1] then group = candidate end
end
if not group then return redis.error_reply('NOGROUP No such consumer group ' .. ARGV[1]) end
local function parts(id)
  local ms, number = string.match(id, '(%d+)-(%d+)')
  return tonumber(ms), tonumber(number)
end
local function before(one, other)
  local ms, number = parts(one)
  local other_ms, other_number = parts(other)
  return ms < other_ms or (ms == other_ms and number < other_number)
end
local gap = 0
if not first or before(group['last-delivered-id'], first) then
  gap = group['entries-read'] and math.max(0, gone - group['entries-read']) or -1
end
"""
)

# After a gap the group is put right before the first entry that is left, with the number that belongs there.
_READ: Final = (
    _GAP
    + """
if gap ~= 0 then
  local at = stream['last-generated-id']
  if first then
    local ms, number = parts(first)
    at = number > 0 and string.format('%.0f-%.0f', ms, number - 1)
      or string.format('%.0f-18446744073709551615', ms - 1)
  end
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], at, 'ENTRIESREAD', gone)
end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
return {gap, read and read[1][2] or {}}
"""
)

_LOSSES: Final = (
    _GAP
    + """
local pending, from, page = 0, '-', 1000
repeat
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], from, first and '(' .. first or '+', page)
  pending = pending + #found
  if #found > 0 then from = '(' .. found[#found][1] end
until #found < page
return {gap, pending}
"""
)

# Created with the number of entries before its place, which Redis would otherwise guess, or not know.
_CREATE: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM', 'ENTRIESREAD', 0)
  return
end
""" + (
    _POSITION
    + """
local read = ARGV[2] == '0' and gone or stream['entries-added']
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'ENTRIESREAD', read)
"""
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trimmed:
    """What left the stream too early for one group. None: not known, of a group that somebody else has made."""

    undelivered: int | None  # before the group was given them
    unacknowledged: int  # after it was given them, and before it has acknowledged them

    @property
    def any(self) -> bool:
        """Whether there is something to alarm about."""
        return self.undelivered is None or self.undelivered + self.unacknowledged > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some entries, oldest first, as (id, fields), and what was trimmed before them and never seen."""

    entries: tuple[tuple[bytes, dict[bytes, bytes]], ...] = ()
    trimmed: Trimmed = Trimmed(undelivered=0, unacknowledged=0)


async def trimmed(client: redis.asyncio.Redis, stream: str, group: str) -> Trimmed:
    """What was trimmed before `group` could have it, and is not written off yet by a read; changes nothing.

    Serves for any group of any consumer. Raises `ResponseError` where there is no such stream or group.
    """
    gap, pending = await client.register_script(_LOSSES)(keys=[stream], args=[group])
    return Trimmed(undelivered=None if gap < 0 else gap, unacknowledged=pending)


class Group:
    """One consumer of one group on one stream. Its client must not decode responses."""

    def __init__(self, client: redis.asyncio.Redis, *, stream: str, name: str, consumer: str) -> None:
        self._client = client
        self._stream = stream
        self._name = name
        self._consumer = consumer
        self._create = client.register_script(_CREATE)
        self._read = client.register_script(_READ)

    async def create(self, *, from_start: bool = False) -> bool:
        """Make the group, and the stream too where it is missing; False where there is such a group already.

        It begins with what is added from now on, or with the oldest entry that is left. A stream that did not exist
        came up empty, and so is all of it owed.
        """
        try:
            await self._create(keys=[self._stream], args=[self._name, "0" if from_start else "$"])
        except ResponseError as error:
            if str(error).startswith("BUSYGROUP"):
                return False
            raise
        return True

    async def read(self, count: int) -> Batch:
        """Up to `count` new entries, and how many were trimmed unseen since the last read: each is told of once.

        Does not wait. Raises `ResponseError` ("NOGROUP", "no such key") where the group or the stream is gone, as when
        a broker comes back empty; `create(from_start=True)` mends that.
        """
        gap, found = await self._read(keys=[self._stream], args=[self._name, self._consumer, count])
        undelivered = None if gap < 0 else gap
        return Batch(entries=_entries(found), trimmed=Trimmed(undelivered=undelivered, unacknowledged=0))

    async def resume(self, *, idle_s: float = 0.0) -> Batch:
        """All that the group was given `idle_s` ago or earlier and never acknowledged; this consumer's from now on.

        For a consumer that starts: whatever was trimmed is struck off the group's list, held by a living one or not.
        """
        batch, at = Batch(), b"0-0"
        while True:
            at, found, gone = await self._client.xautoclaim(
                self._stream, self._name, self._consumer, int(idle_s * 1000), at, count=_CLAIMED_AT_ONCE
            )
            lost = batch.trimmed.unacknowledged + len(gone)
            batch = Batch(
                entries=(*batch.entries, *((entry, dict(fields)) for entry, fields in found)),
                trimmed=replace(batch.trimmed, unacknowledged=lost),
            )
            if at == b"0-0":
                return batch

    async def acknowledge(self, *entries: bytes) -> None:
        """These are done with."""
        if entries:
            await self._client.xack(self._stream, self._name, *entries)


def _entries(found: list[Any]) -> tuple[tuple[bytes, dict[bytes, bytes]], ...]:
    """Entries as a script returns them: each an id and a list of names and values by turns."""
    return tuple((entry, dict(zip(flat[::2], flat[1::2], strict=True))) for entry, flat in found)
