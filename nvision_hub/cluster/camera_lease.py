"""Lease on one camera: the right to stream the camera. At most one hub holds the lease, even during network partitions.

A hub that loses its connection to Redis stops streaming before another hub may start. The holder's term starts before
it sends the request. In Redis, the term starts when the request arrives. The holder's term therefore ends first. Each
new holder gets a higher epoch. If Redis loses its data or a replica takes over, a new holder waits for one full term,
because the earlier holder may still stream. A new holder also waits if another program has written a malformed lease.
The hub replaces the malformed lease and counts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from redis.exceptions import RedisError

from nvision_hub.broker.client import connect
from nvision_hub.broker.discovery import parse_discovery
from nvision_hub.broker.scripts import load_script
from nvision_hub.cluster.sealed_messages import RejectedEntryError, RejectionReason
from nvision_hub.control_characters import printable

if TYPE_CHECKING:
    import redis.asyncio

    from nvision_hub.cluster.rejected_entries import RejectedEntries

log = logging.getLogger("nvision_hub.broker")

TERM_S: Final = 6.0
RENEWALS_PER_TERM: Final = 4
RELEASE_TIMEOUT_S: Final = 0.5
_MAX_INTEGER: Final = 2**53
_MAX_HOLDER_BYTES: Final = 200
# Fraction of a term; the holder stops this much earlier, because clocks drift and frames may be in transit.
MARGIN: Final = 1 / 6


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseSettings:
    url: str = field(repr=False)
    prefix: str
    holder: str  # unique per supervisor, because a supervisor never runs two workers of a camera at the same time
    term_s: float = TERM_S


def lease_key(prefix: str, camera: str) -> str:
    """Return the key of the Redis hash that exists while a hub holds the camera's lease."""
    return f"{prefix}:leases:{{{camera}}}"  # the braces keep the lease and its epochs on one node of a Redis cluster


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseReply:
    """Reply of the script `lease_acquire`."""

    epoch: int  # 0 if another hub has the lease
    holder: str  # name of the other hub, for display
    ms: int  # remaining term of the other hub, or age of the record of epochs
    repaired: bool  # whether the script replaced an entry that no hub could have written

    @classmethod
    def parse(cls, reply: object) -> Self:
        """Return the reply. Raises `RejectedEntryError` for anything that the script does not return."""
        match reply:
            case [int(epoch), bytes(holder), int(ms), int(repaired)] if 0 <= epoch <= _MAX_INTEGER >= abs(ms):
                shown = printable(holder[:_MAX_HOLDER_BYTES].decode(errors="replace"))
                return cls(epoch=epoch, holder=shown, ms=ms, repaired=bool(repaired))
        raise RejectedEntryError(RejectionReason.MALFORMED)


class Lease:
    """Lease on one camera, acquired and renewed by the task `run`. The uplink checks `is_held` before each frame."""

    def __init__(self, settings: LeaseSettings, camera: str, rejected: RejectedEntries) -> None:
        self._rejected = rejected
        self._settings = settings
        self._camera = camera
        self._epoch = 0
        self._has_replicas = int(parse_discovery(settings.url) is not None)  # whether a replica may take over
        self._from = self._until = float("-inf")  # the hub holds the lease between these monotonic times, in seconds
        self.error: str | None = "waiting for Redis: another hub may stream this camera"  # None while held

    def is_held(self, now: float) -> bool:
        """Return whether a frame may be sent at `now`, in monotonic seconds."""
        return self._from <= now < self._until

    async def run(self) -> None:
        """Acquire and renew the lease until canceled, and then release it."""
        settings = self._settings
        client = connect(settings.url, timeout_s=settings.term_s / 2)
        try:
            while True:
                try:
                    await self._acquire(client)
                except (RedisError, OSError) as error:
                    self.error = (
                        f"Redis is unavailable ({type(error).__name__}), and another hub may stream this camera; "
                        "waiting for Redis"
                    )
                    await client.connection_pool.disconnect(inuse_connections=True)
                except RejectedEntryError as error:
                    self._until = float("-inf")
                    self._rejected.add("lease", lease_key(settings.prefix, self._camera), error)
                    self.error = "the lease in Redis is malformed, and another hub may stream this camera; retrying"
                await asyncio.sleep(settings.term_s / RENEWALS_PER_TERM)
        finally:
            self._until = float("-inf")
            await self._release(client)

    async def _acquire(self, client: redis.asyncio.Redis) -> None:
        settings = self._settings
        requested_at = time.monotonic()
        reply = LeaseReply.parse(
            await client.register_script(load_script("lease_acquire"))(
                keys=self._keys(),
                args=[settings.holder, int(settings.term_s * 1000), self._epoch or "", self._has_replicas],
            )
        )
        if reply.repaired:
            place = lease_key(settings.prefix, self._camera)
            self._rejected.add("lease", place, RejectedEntryError(RejectionReason.MALFORMED))
        epoch, ms = reply.epoch, reply.ms
        if not epoch:
            self._until = float("-inf")
            self.error = (
                f"another hub ({reply.holder}) streams this camera; "
                f"this hub takes over when the lease expires (in {max(0, ms) / 1000:.0f} s unless renewed)"
            )
            return
        if epoch != self._epoch:
            log.info("lease on %s acquired: epoch %d", self._camera, epoch, extra={"event": "lease_acquired"})
        if not self.is_held(requested_at):
            self._from = requested_at + max(0.0, settings.term_s - ms / 1000)
        self._epoch = epoch
        self._until = requested_at + settings.term_s * (1 - MARGIN)
        is_waiting = self._from > requested_at
        self.error = "another hub may still stream this camera; waiting for its lease to expire" if is_waiting else None

    async def _release(self, client: redis.asyncio.Redis) -> None:
        """Release the lease, so that the next holder need not wait until the term ends."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await client.register_script(load_script("lease_release"))(
                    keys=self._keys()[:1], args=[self._settings.holder, self._epoch]
                )
        except (RedisError, OSError):
            log.debug("lease on %s not released; it expires at the end of its term", self._camera)
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await client.aclose()

    def _keys(self) -> tuple[str, str]:
        base = lease_key(self._settings.prefix, self._camera)
        return base, f"{base}:epochs"
