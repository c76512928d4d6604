"""HTTP server for any ASGI application, which runs in a worker's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from nvision_hub.runtime.limited_protocols import (
    LimitedHttpProtocol,
    LimitedServerState,
    LimitedTlsProtocol,
    LimitedWebSocketProtocol,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from nvision_hub.runtime.connection_limits import ConnectionLimits

# asyncio accepts up to this many connections at once before the server can close any of them. A flood of connections
# must not exhaust the limit on open files.
ACCEPTED_AT_ONCE: Final = 128
BACKLOG: Final = 1_024  # connections that wait in the kernel; clients beyond this number have to retry
GRACE_S: Final = 1  # maximum time for responses in progress when the server closes
CLOSE_TIMEOUT_S: Final = GRACE_S + 1.0


class HttpServer(uvicorn.Server):
    """uvicorn server for an ASGI application.

    The server sets the event `listening` when it starts to accept connections. It logs neither URLs nor headers,
    because both may contain keys and tokens.
    """

    def __init__(
        self, application: Any, *, ws_max_size: int, limits: ConnectionLimits, tls: tuple[Path, Path] | None = None
    ) -> None:
        for library in ("uvicorn", "httpx2", "httpcore2"):
            logging.getLogger(library).setLevel(logging.WARNING)
        super().__init__(
            uvicorn.Config(
                application,
                http=LimitedHttpProtocol,
                ws=LimitedWebSocketProtocol,
                ws_max_size=ws_max_size,
                ws_per_message_deflate=False,  # JPEG data is already compressed
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=ACCEPTED_AT_ONCE,
                timeout_graceful_shutdown=GRACE_S,
                ssl_certfile=None if tls is None else tls[0],
                ssl_keyfile=None if tls is None else tls[1],
            )
        )
        self._state = LimitedServerState(limits)
        self.server_state = self._state
        self.listening = asyncio.Event()
        self._ended = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:
            self._ended.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.servers = []
        for listening in sockets or ():
            server = await loop.create_server(self._protocol, sock=listening, backlog=ACCEPTED_AT_ONCE)
            self.servers.append(server)
            listening.listen(BACKLOG)  # asyncio has set the backlog to `ACCEPTED_AT_ONCE`, which is too low
        self.started = True
        self.listening.set()

    def _protocol(self) -> asyncio.BaseProtocol:
        http = LimitedHttpProtocol(self.config, self._state, self.lifespan.state)
        return http if self.config.ssl is None else LimitedTlsProtocol(http, self.config.ssl)

    def use_context(self, context: ssl.SSLContext) -> None:
        """Use this TLS context for new connections."""
        self.config.ssl = context

    async def close(self) -> None:
        """Stop accepting connections, and wait at most `GRACE_S` for responses in progress."""
        self.should_exit = True
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers: the worker closes the server."""
        yield


def listener(host: str, port: int) -> socket.socket:
    """Return a listening socket. Port 0 selects a free port. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def base_url(scheme: str, listening: socket.socket) -> str:
    """Return the address of a listening socket, such as http://127.0.0.1:8080."""
    host, port = listening.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
