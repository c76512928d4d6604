"""Count of a consumer group's losses without reading the stream, as a reference for the product's counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nvision_hub.broker.consumer_group import TrimmedCount
from nvision_hub.broker.scripts import load_script

if TYPE_CHECKING:
    import redis.asyncio

# This script is appended to group_gap. A pending entry that is older than the stream's first entry was read and then
# trimmed before its acknowledgment.
_COUNT: Final = """
local pending, from, page = 0, '-', 1000
repeat
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], from, first and '(' .. first or '+', page)
  pending = pending + #found
  if #found > 0 then from = '(' .. found[#found][1] end
until #found < page
return {gap, pending}
"""


async def group_losses(client: redis.asyncio.Redis, stream: str, group: str) -> TrimmedCount:
    """Count the entries trimmed before `group` read or acknowledged them, except those already counted as lost."""
    gap, pending = await client.register_script(load_script("group_gap") + _COUNT)(keys=[stream], args=[group])
    return TrimmedCount(undelivered=None if gap < 0 else gap, unacknowledged=pending)


def is_lossy(count: TrimmedCount) -> bool:
    """Return whether entries were lost. An unknown number also counts as a loss."""
    return count.undelivered is None or count.known > 0
