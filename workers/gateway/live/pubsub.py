"""Subscriptions to Redis channels over one connection, which is open only while subscriptions exist.

`PubSubClient` has no queue: it passes each message to the callbacks immediately.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.broker.client import open_client
from nvision_hub.metrics import catalogue
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio.client import PubSub

    from nvision_hub.broker.client import RedisSettings
    from nvision_hub.metrics.meter import Meter

OnMessage = Callable[[str, bytes], None]

log = logging.getLogger("nvision_hub.gateway")

RETRY_INTERVAL_S: Final = 1.0
PING_INTERVAL_S: Final = 5.0
SILENCE_TIMEOUT_S: Final = 15.0  # the connection counts as lost after this time without a message or a reply to a ping


class PubSubClient:
    """Client for all subscriptions. The caller starts `run` as a task.

    Each callback identifies one subscription. It receives the channel's name and the message, and must not block.
    """

    def __init__(self, stream: RedisSettings, meter: Meter) -> None:
        self._meter = meter
        meter.count(catalogue.REDIS_ENTRIES_REJECTED_TOTAL, 0, source="channel")
        self.prefix = stream.prefix
        self._url = stream.url
        self._wanted: dict[OnMessage, frozenset[str]] = {}
        self._changed = asyncio.Event()
        self._subscribed: set[str] = set()
        self._confirmed: set[str] = set()
        self._confirmation = asyncio.Condition()

    def subscribe(self, on_message: OnMessage, channels: Iterable[str]) -> None:
        """Subscribe the callback to these channels, in place of its previous channels."""
        self._wanted[on_message] = frozenset(channels)
        self._changed.set()

    def unsubscribe(self, on_message: OnMessage) -> None:
        self._wanted.pop(on_message, None)
        self._changed.set()

    async def wait_confirmed(self, channels: Iterable[str]) -> None:
        """Wait until Redis has confirmed the subscription to these channels. After that, no message is missed."""
        wanted = set(channels)
        async with self._confirmation:
            await self._confirmation.wait_for(lambda: wanted <= self._confirmed)

    async def run(self) -> None:
        """Receive messages while subscriptions exist, until canceled."""
        while True:
            while not any(self._wanted.values()):
                self._changed.clear()
                await self._changed.wait()
            try:
                async with (
                    open_client(self._url, timeout_s=None) as client,
                    client.pubsub() as pubsub,
                    asyncio.TaskGroup() as tasks,
                ):
                    await self._update(pubsub)
                    reading = tasks.create_task(self._read(pubsub))
                    while any(self._wanted.values()):
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(PING_INTERVAL_S):
                                await self._changed.wait()
                        await self._update(pubsub)
                        await pubsub.ping()
                    reading.cancel()
            except* (RedisError, OSError) as errors:
                reason = redact(str(errors.exceptions[0]))
                log.debug("cannot read Redis channels: %s; retrying", reason, extra={"event": "pubsub_unreachable"})
                await asyncio.sleep(RETRY_INTERVAL_S)
            finally:
                self._subscribed.clear()
                self._confirmed.clear()

    def _deliver(self, on_message: OnMessage, channel: str, data: bytes) -> None:
        """Call one callback. If it fails, the gateway continues, and the other callbacks still receive the message."""
        try:
            on_message(channel, data)
        except Exception:  # any program with write access to Redis may have sent the message
            log.warning("a message on %s cannot be handled", channel, exc_info=True, extra={"event": "message_failed"})
            self.reject(channel)

    def reject(self, channel: str) -> None:
        """Count a message that does not come from a hub."""
        self._meter.count(catalogue.REDIS_ENTRIES_REJECTED_TOTAL, source="channel")
        log.debug("ignored a message on %s that is not from a hub", channel, extra={"event": "message_rejected"})

    async def _update(self, pubsub: PubSub) -> None:
        self._changed.clear()
        wanted = set[str]().union(*self._wanted.values())
        new, old = wanted - self._subscribed, self._subscribed - wanted
        if new:
            await pubsub.subscribe(*new)
        if old:
            await pubsub.unsubscribe(*old)
        self._subscribed = wanted
        self._confirmed -= old

    async def _read(self, pubsub: PubSub) -> None:
        last = time.monotonic()
        while time.monotonic() - last < SILENCE_TIMEOUT_S:
            message = await pubsub.get_message(timeout=PING_INTERVAL_S)
            if message is None:
                continue
            last = time.monotonic()
            if message["type"] == "subscribe":
                async with self._confirmation:
                    self._confirmed.add(message["channel"].decode())
                    self._confirmation.notify_all()
            elif message["type"] == "message":
                channel = message["channel"].decode()
                for on_message, channels in list(self._wanted.items()):
                    if channel in channels:
                        self._deliver(on_message, channel, message["data"])
        raise TimeoutError("Redis does not reply")
