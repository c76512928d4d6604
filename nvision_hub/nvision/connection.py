"""WebSocket connection to Nvision: endpoint, timeouts, opening and closing.

Every wait has a timeout. Without one, websockets would wait indefinitely for a frozen peer with full buffers.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from nvision_hub import __version__
from nvision_hub.nvision import skipping

if TYPE_CHECKING:
    from nvision_hub.nvision.protocol import RequestOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceEndpoint:
    url: str  # for example wss://nvision.nipa.cloud/api/v1/object-detection
    key: str = field(repr=False)
    options: RequestOptions
    direct: bool = False  # whether to bypass proxies, for example for a service on this machine


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientTimeouts:
    """Timeouts. The uplink detects a frozen service after `ping_interval_s + pong_timeout_s` or `send_timeout_s`."""

    open_timeout_s: float = 10.0
    send_timeout_s: float = 10.0
    ping_interval_s: float = 5.0
    pong_timeout_s: float = 10.0
    close_timeout_s: float = 0.5
    tcp_user_timeout_s: float = 20.0  # close the connection if sent data stays unacknowledged for this time
    # TCP_NOTSENT_LOWAT: without this limit, the kernel would hold megabytes of old frames that newer frames cannot
    # replace.
    max_unsent_bytes: int = 128 * 1024
    result_timeout_s: float = 30.0  # after this time, a frame without a result counts as unanswered
    max_result_bytes: int = (
        8 * 2**20
    )  # more than a drawn-on 4K image, as for callbacks; one of 64 MiB blocks the worker
    retry_first_s: float = 0.5
    retry_cap_s: float = 8.0
    healthy_s: float = 20.0  # time for which results must arrive before the backoff is reset


class _Connect(connect):
    """Connector that follows no redirects. Otherwise, websockets would send the key to any host in a redirect."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Return `exc`, which websockets then raises."""
        return exc


async def open_connection(service: ServiceEndpoint, timeouts: ClientTimeouts) -> ClientConnection:
    """Open a connection. Raises `TimeoutError`, and errors of websockets and the network (see `classify`)."""
    async with asyncio.timeout(timeouts.open_timeout_s):
        connection = await _Connect(
            service.url,
            subprotocols=[Subprotocol(service.key)],  # the service reads the key from the subprotocol
            compression=None,  # deflate does not shrink JPEG
            max_size=timeouts.max_result_bytes,
            ping_interval=timeouts.ping_interval_s,
            ping_timeout=timeouts.pong_timeout_s,
            close_timeout=timeouts.close_timeout_s,
            open_timeout=None,
            proxy=None if service.direct else True,
            user_agent_header=f"nvision-hub/{__version__}",
            additional_headers=skipping.HEADERS,
        )
    raw = connection.transport.get_extra_info("socket")
    if raw is not None and raw.family in {socket.AF_INET, socket.AF_INET6}:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeouts.tcp_user_timeout_s * 1000))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, timeouts.max_unsent_bytes)
    return connection


async def close_connection(connection: ClientConnection, timeouts: ClientTimeouts) -> None:
    """Close the connection. If the peer does not respond in time, abort the connection."""
    try:
        async with asyncio.timeout(timeouts.close_timeout_s):
            await connection.close()
    except (TimeoutError, WebSocketException, OSError):
        connection.transport.abort()
