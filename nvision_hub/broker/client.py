"""Factories for all Redis clients, and the connection over which a publisher sends its batches.

Every command except a blocking read has a time limit. The clients disable the retries of redis-py, because a retry
could repeat an XADD that Redis has already executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit
from uuid import uuid4

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from nvision_hub.broker.discovery import parse_discovery
from nvision_hub.broker.node_finder import SEED_TIMEOUT_S, FindingConnection, FindingConnectionSync, NodeFinder
from nvision_hub.broker.scripts import load_script
from nvision_hub.redaction import redact
from nvision_hub.tracking.changes import STORED_VISITS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from redis.asyncio.connection import AbstractConnection

    from nvision_hub.broker.send_buffer import OutgoingEvent

log = logging.getLogger("nvision_hub.broker")

DEFAULT_STREAM_BYTES: Final = 256 * 2**20
TRACK_STREAM_BYTES: Final = 64 * 2**20  # an event of a track takes 1 to 6 KB
COMMAND_TIMEOUT_S: Final = 5.0
PING_INTERVAL_S: Final = 5.0  # without a message on a channel, ping Redis at this interval
RETRY_INTERVAL_S: Final = 1.0
CLOSE_TIMEOUT_S: Final = 0.5  # maximum time to wait for the server to close its end
# Each option saves 1 MB of private memory per worker (measured). `driver_info` avoids a lookup of redis-py's version in
# the package metadata. `protocol` avoids RESP3. The hub needs neither the version nor the notifications of RESP3.
_SMALL: Final[dict[str, Any]] = {"driver_info": None, "protocol": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class RedisSettings:
    url: str  # complete, as `Redis.dial` returns it
    prefix: str
    max_entries: int  # Redis trims the stream to about this length
    max_bytes: int = DEFAULT_STREAM_BYTES  # Redis also trims the stream to about this size
    stream: Literal["results", "tracks"] = "results"

    @property
    def tls_files(self) -> list[Path]:
        """The certificate and key files that a connection reads."""
        options = parse_qs(urlsplit(self.url).query)
        return [
            Path(text) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") for text in options.get(name, ())
        ]

    def __repr__(self) -> str:
        return f"RedisSettings({redact(self.url)}, prefix={self.prefix})"


def connect(
    url: str,
    *,
    timeout_s: float | None = COMMAND_TIMEOUT_S,
    connect_timeout_s: float = COMMAND_TIMEOUT_S,
    **options: Any,
) -> redis.asyncio.Redis:
    """Return an asyncio client with a time limit per command. Pass `timeout_s=None` for blocking reads without a limit.

    The client connects at its first command. It connects to the server in `url`, or to the master that a Sentinel or a
    node of a Cluster names. `options` go to redis-py's `from_url`. Raises `ValueError` for an incomplete address.
    """
    discovery = parse_discovery(url)
    client = redis.asyncio.Redis.from_url(
        url if discovery is None else discovery.url,
        socket_timeout=timeout_s,
        socket_connect_timeout=connect_timeout_s,
        retry=redis.asyncio.retry.Retry(NoBackoff(), 0),
        **_SMALL,
        **options,
    )
    pool = client.connection_pool
    pool.connection_kwargs.update(_socket_path(url))
    bases: tuple[type, ...] = (_Cancellable, pool.connection_class)
    members: dict[str, Any] = {}
    if discovery is not None:
        bases = (_Cancellable, FindingConnection, pool.connection_class)
        members = {"finder": NodeFinder(discovery), "open_seed": staticmethod(_open_seed)}
    pool.connection_class = type("RedisConnection", bases, members)
    return client


def connect_sync(url: str, *, timeout_s: float = COMMAND_TIMEOUT_S, **options: Any) -> redis.Redis:
    """Return a blocking client with a time limit per command. The client connects at its first command."""
    discovery = parse_discovery(url)
    client = redis.Redis.from_url(
        url if discovery is None else discovery.url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=redis.retry.Retry(NoBackoff(), 0),
        **_SMALL,
        **options,
    )
    pool = client.connection_pool
    pool.connection_kwargs.update(_socket_path(url))
    if issubclass(pool.connection_class, redis.SSLConnection):
        pool.connection_class = type("RedisConnection", (_TicketReader, pool.connection_class), {})
    if discovery is not None:
        members = {"finder": NodeFinder(discovery), "open_seed": staticmethod(_open_seed_sync)}
        pool.connection_class = type("RedisConnection", (FindingConnectionSync, pool.connection_class), members)
    return client


def _socket_path(url: str) -> dict[str, str]:
    """Return redis-py's option `path` for a unix:// URL, and no option for any other URL.

    redis-py decodes the path as UTF-8. In a locale with another encoding, the path in a system call would then differ
    from the path in the URL.
    """
    parts = urlsplit(url)
    return {"path": os.fsdecode(unquote_to_bytes(parts.path))} if parts.scheme == "unix" else {}


def _open_seed(url: str) -> redis.asyncio.Redis:
    return connect(url, timeout_s=SEED_TIMEOUT_S, connect_timeout_s=SEED_TIMEOUT_S)


def _open_seed_sync(url: str) -> redis.Redis:
    return connect_sync(url, timeout_s=SEED_TIMEOUT_S)


@contextlib.asynccontextmanager
async def open_client(url: str, **options: Any) -> AsyncIterator[redis.asyncio.Redis]:
    """Yield a client from `connect`, and close the client on exit."""
    client = connect(url, **options)
    try:
        yield client
    finally:
        with contextlib.suppress(RedisError, OSError):
            await client.aclose()


async def follow_channel(url: str, channel: str) -> AsyncIterator[bytes]:
    """Yield the messages of a channel until canceled. Messages published during an outage of Redis are lost."""
    while True:
        try:
            async with open_client(url) as client, client.pubsub() as pubsub:
                await pubsub.subscribe(channel)
                is_pinged = False
                while True:
                    message = await pubsub.get_message(timeout=PING_INTERVAL_S)
                    if message is None and is_pinged:
                        raise TimeoutError("Redis does not reply")
                    is_pinged = message is None
                    if message is None:
                        await pubsub.ping()
                    elif message["type"] == "message":
                        yield message["data"]
        except (RedisError, OSError) as error:
            log.debug("the channel %s cannot be read: %s; retrying", channel, type(error).__name__)
            await asyncio.sleep(RETRY_INTERVAL_S)


class _TicketReader:
    """Mix-in that makes a blocking TLS connection read one reply after connecting.

    With hiredis, redis-py mistakes the session tickets of TLS 1.3 for an unread reply and rejects every new connection
    (redis-py 8.1, `ConnectionPool.get_connection`). Reading a reply also consumes the tickets.
    """

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        super().on_connect_check_health(check_health)  # type: ignore[misc]  # the other base class defines it
        self.send_command("PING", check_health=False)  # type: ignore[attr-defined]  # likewise
        with contextlib.suppress(ResponseError):  # an ACL forbids PING
            self.read_response()  # type: ignore[attr-defined]  # likewise


class _Cancellable:
    """Mix-in that prevents a connection from swallowing a cancellation.

    redis-py sends with `asyncio.wait_for`. Before Python 3.12, `wait_for` loses a cancellation that arrives just as the
    send completes (python/cpython#86296). The canceled task then continues, and its caller waits indefinitely.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        await super().send_packed_command(command, check_health)  # type: ignore[misc]  # the other base class defines it
        if task is not None and task.cancelling() > before:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # no task would read the reply
            raise asyncio.CancelledError


def publish_commands(
    results: Iterable[OutgoingEvent], *, prefix: str, max_entries: int
) -> Iterator[tuple[str | bytes | int, ...]]:
    """Yield the commands that publish results to their cameras' channels and to the stream."""
    for each in results:
        yield "PUBLISH", f"{prefix}:results:{each.camera}", each.payload
        yield "XADD", f"{prefix}:results", "MAXLEN", "~", max_entries, "*", "camera", each.camera, "event", each.payload


def track_commands(
    events: Iterable[OutgoingEvent], *, prefix: str, max_entries: int
) -> Iterator[tuple[str | bytes | int, ...]]:
    """Yield the commands that publish events of tracks, and that record the latest event of each open track.

    The commands record the visits to zones but do not publish them.
    """
    for each in events:
        event = json.loads(each.payload)
        published = each.payload
        if event.pop(STORED_VISITS, None) is not None:
            published = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        yield "PUBLISH", f"{prefix}:tracks:{each.camera}", published
        fields = ("event", published, "camera", each.camera, "type", event["type"])
        yield "XADD", f"{prefix}:tracks", "MAXLEN", "~", max_entries, "*", *fields
        key = open_tracks_key(prefix, each.camera)
        if event["data"]["track"]["ended_at"] is None:
            yield "HSET", key, event["subject"], each.payload
        else:
            yield "HDEL", key, event["subject"]


def open_tracks_key(prefix: str, camera: str) -> str:
    """Return the key of the hash that holds the latest event of each open track of a camera."""
    return f"{prefix}:tracks:open:{camera}"


def trim_keys(stream: str) -> tuple[str, str]:
    """Return the keys that the script results_trim uses: the results, and the stream with their sizes."""
    return stream, f"{stream}:sizes"


async def _load_script(connection: AbstractConnection, name: str) -> str | None:
    """Load a script into Redis and return its digest; None if Redis refuses scripts."""
    await connection.send_command("SCRIPT", "LOAD", load_script(name))
    try:
        digest = await connection.read_response()
    except ResponseError:  # an ACL forbids scripts
        return None
    return digest.decode() if isinstance(digest, bytes) else None


class RedisConnection:
    """One connection to Redis, opened on demand and reopened after `close`. Methods raise `RedisError` or `OSError`.

    This class uses redis-py's public connection class without a client or a pipeline, and sets one time limit per batch
    instead of one per reply. Together with cheaper status reports, this design saves a third of the event loop's CPU
    time in a camera worker (measured: docs/performance.md, "Where the time goes").
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._pool = connect(settings.url, timeout_s=None, redis_connect_func=self._identify_server).connection_pool
        self._connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        self._server = ""
        self._trim_script: str | None = None  # digest of the loaded script; None if Redis refuses scripts
        self._trim_error: str | None = None  # why Redis did not trim the stream by bytes; None if it did

    async def _identify_server(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        self._trim_script = await _load_script(connection, "results_trim")
        await connection.send_command("INFO", "server")
        try:
            info = await connection.read_response()
        except ResponseError:  # an ACL forbids INFO, or a proxy does not know the command
            info = b""
        fields = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
        # If a server reports no run_id, each connection counts as a connection to a new server.
        self._server = fields.get(b"run_id", b"").decode() or str(uuid4())

    async def server(self) -> str | None:
        """Return the run id of the connected Redis process; None if there is no usable connection. Does not wait."""
        connection = self._connection
        return self._server if connection.is_connected and not await connection.can_read() else None

    async def open(self) -> str:
        """Ensure that the connection is open, and return the run id of the Redis process."""
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            await self._pool.ensure_connection(self._connection)
        return self._server

    async def ping(self) -> None:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            await self._connection.send_command("PING")
            await self._connection.read_response()

    async def send(self, results: Sequence[OutgoingEvent], hub_events: Sequence[OutgoingEvent] = ()) -> None:
        """Publish results or track events (to the stream and the camera channels) and hub events in one transaction."""
        settings, connection = self._settings, self._connection
        commands: list[tuple[Any, ...]] = [("MULTI",)]
        publish = track_commands if settings.stream == "tracks" else publish_commands
        commands += publish(results, prefix=settings.prefix, max_entries=settings.max_entries)
        commands += (("PUBLISH", f"{settings.prefix}:events", each.payload) for each in hub_events)
        trims = bool(results) and self._trim_script is not None
        if trims:
            keys = trim_keys(f"{settings.prefix}:{settings.stream}")
            added = sum(len(each.payload) + len(each.camera) for each in results)
            commands.append(("EVALSHA", self._trim_script, len(keys), *keys, added, settings.max_bytes))
        commands.append(("EXEC",))
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            await connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands[:-1]:
                await connection.read_response()
            replies = await connection.read_response()
        # The results are published even if the script fails, so its error must not make the publisher send them again.
        trimmed = replies.pop() if trims else None
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        if isinstance(trimmed, NoScriptError):  # another program removed all scripts; a new connection loads it again
            await self.close()
        else:
            self._on_trimmed(trimmed)

    def _on_trimmed(self, reply: object) -> None:
        error = redact(str(reply)) if isinstance(reply, RedisError) else None
        if error is not None and self._trim_error is None:
            log.warning(
                "the stream %s:%s is not limited in bytes, because Redis rejects the script (%s)",
                self._settings.prefix,
                self._settings.stream,
                error,
                extra={"event": "stream_not_trimmed"},
            )
        self._trim_error = error

    async def close(self) -> None:
        """Close the connection. After a failure within a transaction, the next transaction needs a new connection."""
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._connection.disconnect()
