"""Hostile clients of an HTTP server: they do not read, do not finish the closing handshake, or send malformed data."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final

import pytest

from nvision_hub.runtime.connection_limits import ConnectionLimits
from nvision_hub.runtime.http_server import HttpServer, listener
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PER_ADDRESS: Final = 4
ATTACKERS: Final = ("127.0.0.2", "127.0.0.3")  # together, they can open all connections
CLOSED_AS_INVALID: Final = b"\x88\x1d\x03\xef"  # the start of a close frame with the code 1007
PARTS: Final = 64  # of a large response; more than the buffers of both sockets hold


async def application(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Close each WebSocket at once. Read a request's body before the response (/before) or during it (/during)."""

    async def read_body() -> None:
        while (await receive()).get("more_body"):
            pass

    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        if scope["path"] == "/wait":
            await receive()
            assert (await receive())["type"] == "websocket.disconnect"
            return
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/before":
        await read_body()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    if scope["path"] == "/during":
        await read_body()
    for _ in range(PARTS if scope["path"] == "/large" else 0):
        await send({"type": "http.response.body", "body": bytes(2**18), "more_body": True})
    await send({"type": "http.response.body"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Serve `application` on the port that is returned."""
    limits = ConnectionLimits(max_connections=PER_ADDRESS * len(ATTACKERS), max_per_address=PER_ADDRESS)
    listening = listener("127.0.0.1", 0)
    server = HttpServer(application, ws_max_size=1024, limits=limits)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    await server.listening.wait()
    yield listening.getsockname()[1]
    await server.close()
    await running


@contextlib.asynccontextmanager
async def request(
    port: int, content: bytes, source: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]]:
    """Send bytes on a new connection. Yield the connection with the first line of the response."""
    connection = socket.create_connection(("127.0.0.1", port), source_address=(source, 0))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    try:
        writer.write(content)
        async with asyncio.timeout(PATIENCE_S):
            yield reader, writer, await reader.readline()
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def written(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: hub", *headers, "", ""]).encode()


UPGRADE: Final = written(
    "/",
    "connection: Upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    f"sec-websocket-key: {base64.b64encode(bytes(16)).decode()}",
)


@pytest.mark.parametrize("content", [written("/large"), UPGRADE], ids=["does not read", "does not close"])
async def test_clients_that_stall_make_room(port: int, content: bytes) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for source in ATTACKERS:
            for _ in range(PER_ADDRESS):
                *_, answer = await stack.enter_async_context(request(port, content, source))
                assert b" 200 " in answer or b" 101 " in answer
        for _ in range(3):
            async with request(port, written("/")) as (*_, answer):
                assert b" 200 " in answer


@pytest.mark.parametrize(
    ("path", "status"), [("/before", b" 400 "), ("/ignored", b" 400 "), ("/during", b" 200 "), ("/ignored", b" 200 ")]
)
async def test_a_malformed_chunk_is_no_failure_of_the_server(
    port: int, path: str, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head, chunk = written(path, "transfer-encoding: chunked", method="POST"), b"ZZZ\r\n"
    is_before_response = status == b" 400 "
    async with request(port, head + chunk if is_before_response else head) as (reader, writer, answer):
        assert status in answer
        if not is_before_response:
            writer.write(chunk)
        with contextlib.suppress(ConnectionError):
            await reader.read()
    async with request(port, written("/")) as (*_, answer):
        assert b" 200 " in answer
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


async def test_a_text_message_that_is_no_text_is_no_failure_of_the_server(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with request(port, UPGRADE.replace(b"GET / ", b"GET /wait ")) as (reader, writer, answer):
        assert b" 101 " in answer
        writer.write(b"\x81\x81" + bytes(4) + b"\xff")
        assert CLOSED_AS_INVALID in await reader.read()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
