"""The relay's settings, its entry point, and its two tasks: records to Redis, and asks from there.

Holds the newest of every member and nothing else: while Redis is away nothing queues, and when it is back all is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nvision_hub.broker.connection import connect
from nvision_hub.broker.fleet_records import EXPIRES_S, FleetKeys, Record
from nvision_hub.link import Command, status_basis
from nvision_hub.oversight import ACCOUNT, GONE, REPLY, REPORT, Account
from nvision_hub.status import Meter, Promise, Status
from nvision_hub.usage import Usage

if TYPE_CHECKING:
    import redis.asyncio

    from nvision_hub.broker.connection import Stream
    from nvision_hub.link import Link

log = logging.getLogger("nvision_hub.relay")

TELLS_EVERY_S: Final = 1.0
TELLS_ALL_EVERY_S: Final = 5.0  # Redis may have lost what it was told, and a camera that is paused reports little
AWAY_S: Final = 1.0
PING_EVERY_S: Final = 5.0
GOODBYE_S: Final = 0.5
LOOP_WITHIN_S: Final = 15.0
REPLIES_MAX: Final = 1000


@dataclass(frozen=True, kw_only=True)
class RelaySettings:
    """Which group this is, and through which Redis it tells."""

    stream: Stream
    group: str
    holder: str  # this start of the group's supervisor


def run(settings: RelaySettings, link: Link) -> None:
    """Tell and listen until the link says to end."""
    asyncio.run(_Relay(settings, link).live())


class _Relay:
    def __init__(self, settings: RelaySettings, link: Link) -> None:
        self._settings = settings
        self._link = link
        self._keys = FleetKeys(prefix=settings.stream.prefix)
        self._accounts: dict[str, Account] = {}
        self._statuses: dict[str, dict[str, Any]] = {}
        self._changed: set[str] = set()
        self._gone: set[str] = set()
        self._replies: asyncio.Queue[Command] = asyncio.Queue(REPLIES_MAX)
        self._meter = Meter()
        self._usage = Usage(self._meter)
        self._error: str | None = None

    async def live(self) -> None:
        client = connect(self._settings.stream.url)
        tasks = [asyncio.create_task(task) for task in (self._tell_all(client), self._answer(client), self._listen())]
        try:
            await self._link.run(self._report, self._heed)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(RedisError, OSError):
                async with asyncio.timeout(GOODBYE_S):
                    await client.delete(self._keys.members(self._settings.group))
                    await client.aclose()

    def _heed(self, command: Command) -> None:
        """Something from the supervisor: kept until it is told."""
        match command:
            case Command(verb=verb) if verb == ACCOUNT:
                account = Account.of(command)
                self._accounts[account.name] = account
                self._changed.add(account.name)
                self._gone.discard(account.name)
            case Command(verb=verb, arguments={"name": str(name), "status": status}) if verb == REPORT:
                self._statuses[name] = status
                self._changed.add(name)
            case Command(verb=verb, arguments={"name": str(name)}) if verb == GONE:
                self._accounts.pop(name, None)
                self._statuses.pop(name, None)
                self._changed.discard(name)
                self._gone.add(name)
            case Command(verb=verb) if verb == REPLY:
                with contextlib.suppress(asyncio.QueueFull):  # whoever asked no longer waits for so old an answer
                    self._replies.put_nowait(command)

    async def _tell_all(self, client: redis.asyncio.Redis) -> None:
        told_all = float("-inf")
        while True:
            now = time.monotonic()
            if now - told_all >= TELLS_ALL_EVERY_S:
                self._changed |= self._accounts.keys()
                told_all = now
            try:
                await self._tell(client)
                self._error = None
            except (RedisError, OSError) as error:
                self._error = f"Redis does not take what this group has to tell ({type(error).__name__})"
                await client.connection_pool.disconnect(inuse_connections=True)
                told_all = float("-inf")
            await asyncio.sleep(TELLS_EVERY_S)

    async def _tell(self, client: redis.asyncio.Redis) -> None:
        group = self._settings.group
        changed, gone = self._changed & self._accounts.keys(), set(self._gone)
        members = self._keys.members(group)
        async with client.pipeline(transaction=True) as pipe:
            for name in changed:
                record = Record(
                    account=self._accounts[name], status=self._statuses.get(name), holder=self._settings.holder
                )
                pipe.hset(members, name, record.encode())
            if gone:
                pipe.hdel(members, *gone)
            pipe.pexpire(members, int(EXPIRES_S * 1000))
            pipe.sadd(self._keys.groups, group)
            self._changed -= changed
            await pipe.execute()
        self._gone -= gone

    async def _answer(self, client: redis.asyncio.Redis) -> None:
        while True:
            reply = await self._replies.get()
            with contextlib.suppress(RedisError, OSError):  # whoever asked hears that nobody answered
                await client.publish(self._keys.replies, reply.encode())

    async def _listen(self) -> None:
        """Hand on what is asked of this group's supervisor, for ever."""
        while True:
            client = connect(self._settings.stream.url)
            try:
                async with client.pubsub() as pubsub:
                    await pubsub.subscribe(self._keys.asks(self._settings.group))
                    while True:
                        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=PING_EVERY_S)
                        if message is None:
                            await pubsub.ping()
                        elif message["type"] == "message":
                            self._ask(message["data"])
            except (RedisError, OSError) as error:
                log.debug("what is asked of this group cannot be heard: %s", type(error).__name__)
                await asyncio.sleep(AWAY_S)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()

    def _ask(self, data: bytes) -> None:
        try:
            command = Command.decode(data)
        except ValueError:
            log.warning("something that is no request came over %s", self._keys.asks(self._settings.group))
            return
        if not self._link.ask(command):
            self._heed(
                Command(
                    verb=REPLY,
                    arguments={"id": command.arguments.get("id"), "error": "the group's supervisor takes no requests"},
                )
            )

    def _report(self) -> Status:
        self._usage.note()
        return Status(
            **status_basis("relaying"),
            ready=True,
            error=self._error,
            promises={"event loop": Promise(at=time.monotonic(), within_s=LOOP_WITHIN_S)},
            metrics=self._meter.snapshot(),
        )
