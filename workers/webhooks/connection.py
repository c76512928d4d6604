"""A TCP connection as httpx2's connection pool wants it, straight on asyncio.

The library's own, on anyio, costs a third of the deliveries per second: it sends head and body of a request in two
packets, and asks the kernel at each request whether every idle connection is still there, which the event loop has been
told anyway. Owns bytes and their flow; knows nothing of HTTP, nor of where it may lead.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

import httpcore2

if TYPE_CHECKING:
    import ssl

_HELD_MAX_BYTES: Final = 64 * 1024  # of what came and nobody has read; the peer has to wait


class Connection(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """One connection. Nothing here is timed: a delivery has one deadline for all of it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._received = b""
        self._ended = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    @classmethod
    async def to(cls, address: str, port: int) -> Self:
        """Connect to a number. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, address, port)
        return connection

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what create_connection makes
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _HELD_MAX_BYTES:
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> None:
        self._ended = True
        _wake(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._writer = self._loop.create_future()

    def resume_writing(self) -> None:
        _wake(self._writer)
        self._writer = None

    # Called by the pool

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the library's
        """Taken now, and sent once an answer is waited for: head and body leave together."""
        del timeout
        self._unsent.append(buffer)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - the library's
        """What has come, b"" at the end. Raises `httpcore2.NetworkError`."""
        del timeout
        if self._unsent:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()
        if self._writer is not None and not self._ended:
            await self._writer
        if not self._received and not self._ended:
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data, self._received = self._received[:max_bytes], self._received[max_bytes:]
        if not data and self._error is not None:
            raise httpcore2.ReadError(str(self._error)) from self._error
        if not self._ended:
            self._transport.resume_reading()
        return data

    async def aclose(self) -> None:
        """Close it, without waiting for the peer's agreement."""
        self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's
    ) -> httpcore2.AsyncNetworkStream:
        """Speak TLS from now on, with whoever can prove to be `server_hostname`. Raises `OSError`."""
        del timeout
        try:
            transport = await self._loop.start_tls(self._transport, self, ssl_context, server_hostname=server_hostname)
        except BaseException:
            self._transport.abort()
            raise
        assert transport is not None  # noqa: S101 - None is for transports that cannot speak TLS
        self._transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        """`is_readable` tells the pool that an idle connection is none any more; else as asyncio's transports."""
        if info == "is_readable":
            return self._ended or bool(self._received) or self._transport.is_closing()
        return self._transport.get_extra_info(info)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
