"""TCP connection for httpx2's connection pool, built directly on asyncio.

httpx2's own connection is based on anyio and reduces the deliveries per second by a third, for two reasons. It sends
the head and the body of a request in two packets. For each request, it asks the kernel which idle connections are still
open, although the event loop already has this information.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

import httpcore2

if TYPE_CHECKING:
    import ssl

MAX_ANSWER_BYTES: Final = 32 * 1024  # many times what endpoints answer; only the status matters
_MAX_UNREAD_BYTES: Final = 64 * 1024  # above this size, the connection stops receiving
# The pool parses what one `read` returns without a pause: at most 160 interim answers, which take about 15 ms.
_MAX_READ_BYTES: Final = 4 * 1024


class AnswerTooLongError(httpcore2.ReadError):
    """The answer to one request is longer than `MAX_ANSWER_BYTES`.

    The limit includes interim answers (status 1xx) and the framing of chunks. Each is tiny, but costs CPU time.
    """


class TcpConnection(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """One TCP connection. It applies no time limits, because one time limit covers the whole attempt."""

    def __init__(self) -> None:
        self._unsent: list[bytes] = []
        self._received = b""
        self._answer_bytes = 0  # bytes that `read` returned since the last request
        self._ended = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None

    @classmethod
    async def to(cls, address: str, port: int) -> Self:
        """Connect to a numeric address. Raises `OSError`."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, address, port)
        return connection

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_connection makes a Transport
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _MAX_UNREAD_BYTES:
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> None:
        self._ended = True
        self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        self._wake_reader()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # Called by the pool

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - the library's
        """Buffer the data. The next `read` sends the buffer, so the head and the body of a request leave together."""
        self._unsent.append(buffer)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 - see above
        """Return received bytes, or b"" at the end of the stream. Raises `httpcore2.NetworkError`."""
        if self._unsent:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()
            self._answer_bytes = 0
        if self._answer_bytes > MAX_ANSWER_BYTES:
            raise AnswerTooLongError(f"the answer is longer than {MAX_ANSWER_BYTES // 1024} KiB")
        if not self._received and not self._ended:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        elif self._answer_bytes:
            await asyncio.sleep(0)  # other tasks run between two parts of an answer
        size = min(max_bytes, _MAX_READ_BYTES)
        data, self._received = self._received[:size], self._received[size:]
        if not data and self._error is not None:
            raise httpcore2.ReadError(str(self._error)) from self._error
        self._answer_bytes += len(data)
        if not self._ended and len(self._received) <= _MAX_UNREAD_BYTES:
            self._transport.resume_reading()
        return data

    async def aclose(self) -> None:
        """Abort the connection without waiting for the peer."""
        self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - see above
    ) -> httpcore2.AsyncNetworkStream:
        """Upgrade to TLS, and verify that the peer is `server_hostname`. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self._transport, self, ssl_context, server_hostname=server_hostname)
        assert transport is not None  # noqa: S101 - start_tls returns None only without TLS
        self._transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        """Return information about the transport. The pool discards an idle connection that is readable.

        An idle connection also counts as readable if its peer answered before it read the whole request. Otherwise,
        a peer that never reads could fill the memory with requests.
        """
        if info == "is_readable":
            transport = self._transport
            return (
                self._ended or bool(self._received) or transport.is_closing() or transport.get_write_buffer_size() > 0
            )
        return self._transport.get_extra_info(info)
