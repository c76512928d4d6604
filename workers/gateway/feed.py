"""Redis channels for whoever listens at this moment: one connection, opened for the first and closed after the last.

What arrives is handed to the listeners at once, who keep what they can use; nothing is queued here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.broker.publisher import connect
from nvision_hub.errors import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from redis.asyncio.client import PubSub

    from nvision_hub.broker.publisher import Stream

log = logging.getLogger("nvision_hub.gateway")

AWAY_S: Final = 1.0
PING_EVERY_S: Final = 5.0
SILENT_AFTER_S: Final = 15.0  # a connection that does not even answer pings is half open


@dataclass(kw_only=True, eq=False)
class Listener:
    """Whoever listens; `heard` gets a channel's name and what came over it, and must not wait."""

    heard: Callable[[str, bytes], None]
    channels: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class Feed:
    """`run` is its task."""

    stream: Stream
    _listeners: set[Listener] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _subscribed: set[str] = field(default_factory=set)
    _confirmed: set[str] = field(default_factory=set)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def listen(self, listener: Listener, channels: Iterable[str]) -> None:
        """Hear these channels from now on, and no others."""
        listener.channels = frozenset(channels)
        self._listeners.add(listener)
        self._changed.set()

    def leave(self, listener: Listener) -> None:
        """Hear nothing more."""
        self._listeners.discard(listener)
        self._changed.set()

    async def confirmed(self, channels: Iterable[str]) -> None:
        """Wait until Redis has confirmed these channels: what is published from then on is heard."""
        wanted = set(channels)
        async with self._news:
            await self._news.wait_for(lambda: wanted <= self._confirmed)

    async def run(self) -> None:
        """Listen whenever somebody does, for ever."""
        while True:
            await self._changed.wait()
            if not self._wanted():
                self._changed.clear()
                continue
            client = connect(self.stream.url, timeout_s=None)
            try:
                async with client.pubsub() as pubsub:
                    await self._follow(pubsub)
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("the live channels are away: %s", redact(str(error)))
                await asyncio.sleep(AWAY_S)
            finally:
                self._subscribed.clear()
                self._confirmed.clear()
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()

    def _wanted(self) -> set[str]:
        return {channel for listener in self._listeners for channel in listener.channels}

    async def _follow(self, pubsub: PubSub) -> None:
        """Until nobody listens any more."""
        await self._subscribe(pubsub)
        reading = asyncio.create_task(self._read(pubsub))
        try:
            while self._wanted():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING_EVERY_S):
                        await self._changed.wait()
                if reading.done():
                    break
                await self._subscribe(pubsub)
                await pubsub.ping()
        finally:
            reading.cancel()
            (end,) = await asyncio.gather(reading, return_exceptions=True)
        if isinstance(end, Exception):
            raise end

    async def _subscribe(self, pubsub: PubSub) -> None:
        self._changed.clear()
        wanted = self._wanted()
        new, old = wanted - self._subscribed, self._subscribed - wanted
        if new:
            await pubsub.subscribe(*new)
        if old:
            await pubsub.unsubscribe(*old)
        self._subscribed = wanted
        self._confirmed -= old

    async def _read(self, pubsub: PubSub) -> None:
        heard = time.monotonic()
        while time.monotonic() - heard < SILENT_AFTER_S:
            message = await pubsub.get_message(timeout=PING_EVERY_S)
            if message is None:
                continue
            heard = time.monotonic()
            if message["type"] == "pong":
                continue
            channel = message["channel"].decode()
            if message["type"] == "subscribe":
                async with self._news:
                    self._confirmed.add(channel)
                    self._news.notify_all()
            elif message["type"] == "message":
                for listener in list(self._listeners):
                    if channel in listener.channels:
                        listener.heard(channel, message["data"])
        raise TimeoutError("Redis is silent")
