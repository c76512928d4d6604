"""The connection to Redis: commands that fail in time and are never repeated behind our back, and whose Redis it is.

Knows how events are named in Redis; not when to send them, nor what becomes of them while it is away.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from nvision_hub.errors import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio.connection import AbstractConnection

    from nvision_hub.broker.outgoing import Outgoing

COMMAND_WITHIN_S: Final = 5.0
CLOSED_WITHIN_S: Final = 0.5  # a goodbye that nobody answers is not waited for


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Where events go in Redis."""

    url: str
    prefix: str
    max_entries: int  # the stream is trimmed at about this length

    def __repr__(self) -> str:
        return f"Stream({redact(self.url)}, prefix={self.prefix})"


def connect(url: str, *, timeout_s: float | None = COMMAND_WITHIN_S, **options: Any) -> redis.asyncio.Redis:
    """A client whose commands fail within `timeout_s` and are never retried behind our back.

    The library's own retries would repeat an XADD that had arrived. None waits for ever, as blocking readers must.
    """
    client = redis.asyncio.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=COMMAND_WITHIN_S,
        retry=Retry(NoBackoff(), 0),
        # Each 1 MB of private memory a worker, measured, for what a publisher has no use for: looking up the library's
        # own version in its package's metadata, and RESP3 with its notifications.
        driver_info=None,
        protocol=2,
        **options,
    )
    pool = client.connection_pool
    pool.connection_class = type("Connection", (_Cancellable, pool.connection_class), {})
    return client


class _Cancellable:
    """A connection that a cancelled task never gets out of as if nothing had been.

    redis-py sends by `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes as the sending ends
    (python/cpython#86296): the task then lives on, and whoever waits for its end waits for ever.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        await super().send_packed_command(command, check_health)  # type: ignore[misc]  # of the class it is mixed into
        if task is not None and task.cancelling() > before:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # the answer will come, and find nobody
            raise asyncio.CancelledError


class Connection:
    """One connection, made when needed and again after each `drop`. Its methods raise `RedisError` or `OSError`.

    Speaks over redis-py's connection itself: its client, pool and pipeline cost more than all else that a worker does
    for a result, and a time-out of its own for each answer another part. Here each method has one.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._pool = connect(stream.url, timeout_s=None, redis_connect_func=self._greet).connection_pool
        self._connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        self._server = ""

    async def _greet(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            told = await connection.read_response()
        except ResponseError:  # forbidden by an access list, or unknown to a proxy
            told = b""
        named = dict(line.split(b":", 1) for line in told.splitlines() if b":" in line)
        # One that keeps its name to itself might be another each time.
        self._server = named.get(b"run_id", b"").decode() or str(uuid4())

    async def server(self) -> str | None:
        """Which Redis this is: another name for each process that ever answers. None where it has to be connected to.

        Does not wait.
        """
        connection = self._connection
        return self._server if connection.is_connected and not await connection.can_read() else None

    async def open(self) -> str:
        """Connect, where there is no connection or Redis has ended it; which Redis this is."""
        async with asyncio.timeout(COMMAND_WITHIN_S):
            await self._pool.ensure_connection(self._connection)
        return self._server

    async def ping(self) -> None:
        """A sign of life, or an error."""
        async with asyncio.timeout(COMMAND_WITHIN_S):
            await self._connection.send_command("PING")
            await self._connection.read_response()

    async def send(self, results: Sequence[Outgoing], news: Sequence[Outgoing] = ()) -> None:
        """Publish and stream results, publish news: all in one transaction, all or nothing."""
        prefix, connection = self._stream.prefix, self._connection
        trimmed = ("MAXLEN", "~", self._stream.max_entries)
        commands: list[tuple[Any, ...]] = [("MULTI",)]
        for each in results:
            commands += (
                ("PUBLISH", f"{prefix}:results:{each.camera}", each.payload),
                ("XADD", f"{prefix}:results", *trimmed, "*", "camera", each.camera, "event", each.payload),
            )
        commands += (("PUBLISH", f"{prefix}:events", each.payload) for each in news)
        commands.append(("EXEC",))
        async with asyncio.timeout(COMMAND_WITHIN_S):
            await connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands[:-1]:
                await connection.read_response()
            outcomes = await connection.read_response()
        for outcome in outcomes:
            if isinstance(outcome, RedisError):
                raise outcome

    async def drop(self) -> None:
        """Close it: one that failed half-way through a transaction is not to be trusted with the next."""
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(CLOSED_WITHIN_S):
                await self._connection.disconnect()

    async def close(self) -> None:
        """The end."""
        await self.drop()
