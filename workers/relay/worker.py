"""Relay worker: publishes the supervisor's messages in Redis, and passes requests from Redis to the supervisor.

The worker accepts only requests that are sealed with the fleet key and addressed to this run of the worker.

The worker keeps only the newest record of each process, so records do not accumulate while Redis is unavailable. When
Redis is available again, the worker writes all records.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.broker.client import RedisSettings, connect, follow_channel
from nvision_hub.cluster.fleet_registry import EXPIRES_S, MAX_COMMAND_BYTES, RegistryKeys, RegistryRecord
from nvision_hub.cluster.rejected_entries import RejectedEntries
from nvision_hub.cluster.sealed_messages import (
    GATEWAY,
    FleetSeal,
    MessageKind,
    RejectedEntryError,
    RejectionReason,
    ReplayGuard,
)
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.messages import (
    Message,
    MessageError,
    ProcessChanged,
    ProcessInfo,
    ProcessRemoved,
    Reply,
    Request,
    StatusReported,
    decode,
    encode,
)
from nvision_hub.runtime.process_stats import ProcessStats
from nvision_hub.runtime.status import Deadline, Status
from nvision_hub.runtime.worker import run_worker

if TYPE_CHECKING:
    import redis.asyncio

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

WRITE_INTERVAL_S: Final = 1.0
WRITE_ALL_INTERVAL_S: Final = 5.0  # restores records that Redis has lost; the record of a paused camera rarely changes
REMOVE_TIMEOUT_S: Final = 0.5
LOOP_TIMEOUT_S: Final = 15.0
MAX_REPLIES: Final = 1000


@dataclass(frozen=True, kw_only=True)
class RelaySettings:
    stream: RedisSettings
    group: str
    holder: str  # identifies the current run of the group's supervisor
    seal: FleetSeal


def run(settings: RelaySettings, link: SupervisorPipe) -> None:
    """Relay until the supervisor requests a stop."""
    asyncio.run(_Relay(settings, link).live())


class _Relay:
    def __init__(self, settings: RelaySettings, link: SupervisorPipe) -> None:
        self._settings = settings
        self._link = link
        self._seal = settings.seal
        # Each run of this worker has a new addressee, so a request to an earlier run cannot be replayed.
        self._inbox = secrets.token_hex(16)
        self._keys = RegistryKeys(prefix=settings.stream.prefix)
        self._infos: dict[str, ProcessInfo] = {}
        self._statuses: dict[str, Status] = {}
        self._due: set[str] = set()  # processes that changed or were removed since the last write
        self._replies: asyncio.Queue[Reply] = asyncio.Queue(MAX_REPLIES)
        self._meter = Meter()
        self._usage = ProcessStats(self._meter)
        self._rejected = RejectedEntries(self._meter)
        self._replays = ReplayGuard()
        self._error: str | None = None

    async def live(self) -> None:
        client = connect(self._settings.stream.url)
        tasks = {"records": self._write_all(client), "replies": self._answer(client), "requests": self._listen()}
        try:
            await run_worker(self._link, self._report, tasks=tasks, on_message=self._on_message)
        finally:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(REMOVE_TIMEOUT_S):
                    await client.delete(self._keys.members(self._settings.group))
                    await client.aclose()

    def _on_message(self, message: Message) -> None:
        match message:
            case ProcessChanged(info=info):
                self._infos[info.name] = info
                self._due.add(info.name)
            case StatusReported(name=name, status=status):
                self._statuses[name] = status
                self._due.add(name)
            case ProcessRemoved(name=name):
                self._infos.pop(name, None)
                self._statuses.pop(name, None)
                self._due.add(name)
            case Reply():
                # If the queue is full, the sender of the request times out.
                with contextlib.suppress(asyncio.QueueFull):
                    self._replies.put_nowait(message)

    async def _write_all(self, client: redis.asyncio.Redis) -> None:
        written_all_at = float("-inf")
        while True:
            now = time.monotonic()
            if now - written_all_at >= WRITE_ALL_INTERVAL_S:
                self._due |= self._infos.keys()
                written_all_at = now
            due, self._due = self._due, set()
            try:
                await self._write(client, due)
                self._error = None
            except (RedisError, OSError) as error:
                self._due |= due
                self._error = f"the fleet's registry in Redis cannot be written ({type(error).__name__})"
                await client.connection_pool.disconnect(inuse_connections=True)
                written_all_at = float("-inf")
            await asyncio.sleep(WRITE_INTERVAL_S)

    async def _write(self, client: redis.asyncio.Redis, due: set[str]) -> None:
        group, holder = self._settings.group, self._settings.holder
        members, inbox = self._keys.members(group), "" if self._seal.key is None else self._inbox
        async with client.pipeline(transaction=True) as pipe:
            for name in due:
                if (info := self._infos.get(name)) is None:
                    pipe.hdel(members, name)
                else:
                    record = RegistryRecord(account=info, status=self._statuses.get(name), holder=holder, inbox=inbox)
                    pipe.hset(members, name, self._sealed(MessageKind.RECORD, record.encode(), group))
            pipe.pexpire(members, int(EXPIRES_S * 1000))
            pipe.sadd(self._keys.groups, group)
            await pipe.execute()

    async def _answer(self, client: redis.asyncio.Redis) -> None:
        while True:
            reply = await self._replies.get()
            with contextlib.suppress(RedisError, OSError):  # without a reply, the sender of the request times out
                await client.publish(self._keys.replies, self._sealed(MessageKind.REPLY, encode(reply), GATEWAY))

    async def _listen(self) -> None:
        channel = self._keys.commands(self._settings.group)
        async for data in follow_channel(self._settings.stream.url, channel):
            try:
                request = self._opened(data)
                is_sent = self._link.request(request)
            except RejectedEntryError as error:
                self._rejected.add("command", channel, error)
                continue
            if not is_sent:
                self._on_message(Reply(request_id=request.request_id, error="the group supervisor accepts no requests"))

    def _opened(self, data: bytes) -> Request:
        """Return the request in a message. Raises `RejectedEntryError` unless the fleet's gateway sent it just now."""
        if self._seal.key is None:
            raise RejectedEntryError(RejectionReason.NO_KEY)
        now = time.time()
        message = self._seal.open(
            MessageKind.COMMAND, data, addressee=self._inbox, now=now, max_bytes=MAX_COMMAND_BYTES
        )
        self._replays.admit(message, now)
        try:
            request = decode(message.payload)
        except MessageError:
            raise RejectedEntryError(RejectionReason.MALFORMED) from None
        if not isinstance(request, Request):
            raise RejectedEntryError(RejectionReason.MALFORMED)
        return request

    def _sealed(self, kind: MessageKind, payload: bytes, addressee: str) -> bytes:
        return self._seal.seal(kind, payload, addressee=addressee, now=time.time())

    def _report(self) -> Status:
        self._usage.update()
        return Status(
            state="relaying",
            ready=True,
            error=self._error,
            deadlines={"event loop": Deadline(at=time.monotonic(), timeout_s=LOOP_TIMEOUT_S)},
            metrics=self._meter.snapshot(),
        )
