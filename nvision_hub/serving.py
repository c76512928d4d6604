"""An HTTP server inside a worker's own event loop. Owns how it listens and ends; knows nothing of what it serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_CONNECTIONS: Final = 1_024
GRACE_S: Final = 1  # at the end, for answers that are under way
_CHATTY: Final = ("uvicorn", "httpx2", "httpcore2")


class Server(uvicorn.Server):
    """uvicorn that tells when it listens, and without its signal handlers: when to end is told over the link."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None of them."""
        yield


def server(application: Any, *, ws_max_size: int) -> Server:
    """A server of an ASGI application that logs no addresses and no headers, in which keys and tokens travel."""
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return Server(
        uvicorn.Config(
            application,
            http="h11",
            ws="websockets-sansio",
            ws_max_size=ws_max_size,
            ws_per_message_deflate=False,  # pictures are compressed already
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
        )
    )


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=256)


def base_url(scheme: str, listening: socket.socket) -> str:
    """The address of a listening socket, such as http://127.0.0.1:8080."""
    host, port = listening.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
