"""A lease on one camera: the right to stream it, held by one hub of many at a time, through partitions too.

A hub that cannot reach Redis stops by its own clock before anybody else may begin: its term counts from the moment
before it asked, for others from the moment after. Each new holder gets a higher epoch. Where Redis has forgotten
everything, whoever comes first waits for one term: somebody may still stream by what was forgotten.

Knows nothing of cameras, pictures or machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.broker.connection import connect

if TYPE_CHECKING:
    import redis.asyncio

log = logging.getLogger("nvision_hub.broker")

TERM_S: Final = 6.0
RENEWALS_A_TERM: Final = 4
GOODBYE_S: Final = 0.5
MARGIN: Final = 1 / 6  # of a term, before its end: for clocks that run apart and a picture that is on its way out

# The lease is a hash of holder and epoch that expires. Epochs are counted beside it, in a record that does not, and
# that tells its age: one younger than a term may be all that is left of an older one.
_TAKE: Final = """
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[1] then return {0, holder, redis.call('PTTL', KEYS[1])} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSETNX', KEYS[2], 'since', string.format('%.0f', now))
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch or ARGV[3] ~= epoch then
  epoch = redis.call('HINCRBY', KEYS[2], 'last', 1)
  redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'epoch', epoch)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {tonumber(epoch), '', now - redis.call('HGET', KEYS[2], 'since')}
"""
_GIVE_UP: Final = """
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] and redis.call('HGET', KEYS[1], 'epoch') == ARGV[2] then
  redis.call('DEL', KEYS[1])
end
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseSettings:
    """Where leases are kept, and who asks for them."""

    url: str = field(repr=False)
    prefix: str
    holder: str  # of one supervisor: it starts a camera's next worker only when the one before is gone
    term_s: float = TERM_S


def lease_key(prefix: str, camera: str) -> str:
    """The record that is there while somebody holds a camera's."""
    return f"{prefix}:leases:{{{camera}}}"  # the braces keep it and its epochs on one node of a cluster


class Lease:
    """One camera's. `run` is its task; `held` is asked before each picture."""

    def __init__(self, settings: LeaseSettings, camera: str) -> None:
        self._settings = settings
        self._camera = camera
        self._epoch = 0
        self._from = self._until = float("-inf")  # monotonic seconds between which it is held
        self.error: str | None = "it is not known yet whether another hub streams this camera"  # None while it is held

    @property
    def epoch(self) -> int:
        """Of the term that is or was held last; 0 before the first."""
        return self._epoch

    def held(self, now: float) -> bool:
        """Whether a picture may be sent at `now`, in monotonic seconds."""
        return self._from <= now < self._until

    async def run(self) -> None:
        """Ask for it, renew it, ask for it again, for ever; given up when this is cancelled."""
        settings = self._settings
        client = connect(settings.url, timeout_s=settings.term_s / 2)
        try:
            while True:
                try:
                    await self._take(client)
                except (RedisError, OSError) as error:
                    self.error = (
                        f"Redis cannot say whether another hub streams this camera ({type(error).__name__}); "
                        "it waits until Redis is back"
                    )
                    await client.connection_pool.disconnect(inuse_connections=True)
                await asyncio.sleep(settings.term_s / RENEWALS_A_TERM)
        finally:
            self._until = float("-inf")
            await self._give_up(client)

    async def _take(self, client: redis.asyncio.Redis) -> None:
        settings = self._settings
        asked = time.monotonic()
        epoch, holder, ms = await client.eval(
            _TAKE, 2, *self._keys(), settings.holder, int(settings.term_s * 1000), self._epoch or ""
        )
        if not epoch:
            self._until = float("-inf")
            self.error = (
                f"another hub ({holder.decode(errors='replace')}) streams this camera; "
                f"this one takes over when that ends ({max(0, ms) / 1000:.0f} s)"
            )
            return
        if epoch != self._epoch:
            log.info("the lease on %s is held, epoch %d", self._camera, epoch)
        if not self.held(asked):
            self._from = asked + max(0.0, settings.term_s - ms / 1000)
        self._epoch = epoch
        self._until = asked + settings.term_s * (1 - MARGIN)
        self.error = None if self._from <= asked else "another hub may still stream this camera; it waits for one term"

    async def _give_up(self, client: redis.asyncio.Redis) -> None:
        """At once, so that the next holder need not wait for the term to end."""
        try:
            async with asyncio.timeout(GOODBYE_S):
                await client.eval(_GIVE_UP, 2, *self._keys(), self._settings.holder, self._epoch)
        except (RedisError, OSError):
            log.debug("the lease on %s runs out by itself", self._camera)
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(GOODBYE_S):
                await client.aclose()

    def _keys(self) -> tuple[str, str]:
        base = lease_key(self._settings.prefix, self._camera)
        return base, f"{base}:epochs"
