"""Audit trail of the gateway: writes entries to the audit log and to the Redis stream `<prefix>:audit`.

The file is the authoritative record. The stream is a copy for programs, and lacks entries that Redis did not accept.
While the disk is full, up to `MAX_WAITING` entries wait in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.access.audit_log import AUDIT, append

if TYPE_CHECKING:
    from pathlib import Path

    import redis.asyncio

    from nvision_hub.access.audit_log import AuditEntry

log = logging.getLogger("nvision_hub.gateway")

MAX_WAITING: Final = 10_000
MAX_BATCH: Final = 500
MAX_STREAM_ENTRIES: Final = 10_000
RETRY_INTERVAL_S: Final = 5.0


class AuditTrail:
    """Writer of audit entries. The caller starts `run` as a task and calls `drain` at the end."""

    def __init__(self, state_dir: Path | None, client: redis.asyncio.Redis, prefix: str) -> None:
        self._state_dir = state_dir
        self._client = client
        self._stream = f"{prefix}:{AUDIT}"
        self._waiting: list[str] = []
        self._arrived = asyncio.Event()
        self._writing = asyncio.Lock()
        self._is_failing = False

    def add(self, entry: AuditEntry) -> None:
        """Add an entry with the current time. Returns immediately, and `run` writes the entry later."""
        if len(self._waiting) >= MAX_WAITING:
            log.error("audit entry lost: %d entries wait for the disk", MAX_WAITING, extra={"event": "audit_lost"})
            return
        self._waiting.append(entry.line(time.time()))
        self._arrived.set()

    async def run(self) -> None:
        """Write entries as they arrive, until canceled."""
        while True:
            await self._arrived.wait()
            if not await self._write_batch():
                await asyncio.sleep(RETRY_INTERVAL_S)

    async def drain(self) -> None:
        """Write the entries that are still waiting."""
        while self._waiting and await self._write_batch():
            pass

    async def _write_batch(self) -> bool:
        """Write some of the waiting entries. Return False if the disk did not accept them."""
        try:
            # Shielded, because the thread would continue a canceled write, and `drain` would write its entries a second
            # time.
            batch = await asyncio.shield(self._append())
        except OSError as error:
            if not self._is_failing:
                reason = error.strerror or error
                log.warning("audit log not written: %s; entries wait in memory", reason,
                            extra={"event": "audit_unwritable"})  # fmt: skip
            self._is_failing = True
            return False
        self._is_failing = False
        with contextlib.suppress(RedisError, OSError):
            async with self._client.pipeline(transaction=False) as pipeline:
                for line in batch:
                    pipeline.xadd(self._stream, {"entry": line}, maxlen=MAX_STREAM_ENTRIES, approximate=True)
                await pipeline.execute()
        return True

    async def _append(self) -> list[str]:
        async with self._writing:
            batch = self._waiting[:MAX_BATCH]
            if self._state_dir is not None:
                await asyncio.to_thread(append, self._state_dir, batch)
            del self._waiting[: len(batch)]
            if not self._waiting:
                self._arrived.clear()
            return batch
