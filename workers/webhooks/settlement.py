"""What became of deliveries, written to Redis: all that has gathered, in one transaction, one after another.

Until then each is still where it was, in its group or in its queue: whoever dies before, has it delivered again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.backoff import Backoff
from nvision_hub.broker import delivery_queue
from nvision_hub.errors import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis.asyncio
    from redis.asyncio.client import Pipeline

    from nvision_hub.broker.delivery_queue import Keys

log = logging.getLogger("nvision_hub.webhooks")

WRITTEN_WITHIN_S: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """One delivery that is done with, for now."""

    entry: bytes | None = None  # of the stream, to be acknowledged; None for one that waited
    waited: str | None = None  # the webhook-id of one that waited
    finished: bool = True  # whether that need not wait any more
    then: Callable[[Pipeline], None] | None = None  # what else belongs into the transaction


class Settlement:
    """One webhook's. `run` is its task; `add` never waits."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settled: Callable[[list[Settled]], None]) -> None:
        self._client = client
        self._keys = keys
        self._settled = settled  # called with what has been written
        self._outstanding: list[Settled] = []
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._backoff = Backoff(first_s=0.1, cap_s=2.0, healthy_s=5.0)

    @property
    def outstanding(self) -> int:
        """How many are not yet written."""
        return len(self._outstanding)

    def add(self, item: Settled) -> None:
        """To be written with the next transaction."""
        self._outstanding.append(item)
        self._emptied.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Write what gathers, for ever; through Redis' absences too."""
        while True:
            await self._arrived.wait()
            batch = list(self._outstanding)
            try:
                async with asyncio.timeout(WRITTEN_WITHIN_S):
                    await self._write(batch)
            except (RedisError, OSError) as error:
                log.debug("webhook %s: not settled (%s)", self._keys.webhook, redact(str(error)))
                await asyncio.sleep(self._backoff.next_s())
                continue
            self._backoff.healthy(asyncio.get_running_loop().time())
            del self._outstanding[: len(batch)]
            if not self._outstanding:
                self._arrived.clear()
                self._emptied.set()
            self._settled(batch)

    async def _write(self, batch: list[Settled]) -> None:
        async with self._client.pipeline(transaction=True) as pipe:
            if entries := [item.entry for item in batch if item.entry is not None]:
                pipe.xack(self._keys.results, self._keys.group, *entries)
            if finished := [item.waited for item in batch if item.waited is not None and item.finished]:
                delivery_queue.remove(pipe, self._keys, *finished)
            for item in batch:
                if item.then is not None:
                    item.then(pipe)
            await pipe.execute()

    async def drain(self, within_s: float) -> None:
        """Wait until all is written, `within_s` at most; what is not will be delivered again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._emptied.wait()
