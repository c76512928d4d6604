"""One connection to Nvision: where to, how it is opened and closed, and how long anything may take on it.

Nothing here waits without bound: websockets itself waits for ever for a peer that is frozen with a full buffer.
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

if TYPE_CHECKING:
    from nvision_hub.wire import Options


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """Where to stream to, and what to ask of it."""

    url: str  # of the one service, such as wss://nvision.nipa.cloud/api/v1/object-detection
    key: str = field(repr=False)
    options: Options
    direct: bool = False  # past any proxy of the environment: it is on this machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How patient an uplink is. A frozen service is noticed within `ping_every_s + pong_s`, or within `send_s`."""

    open_s: float = 10.0
    send_s: float = 10.0
    ping_every_s: float = 5.0
    pong_s: float = 10.0
    close_s: float = 0.5
    unacknowledged_s: float = 20.0  # TCP_USER_TIMEOUT: a peer that vanished with data on the way
    # TCP_NOTSENT_LOWAT: what waits in the kernel cannot be overtaken. Unbounded, that is megabytes of old pictures.
    unsent_bytes: int = 128 * 1024
    answer_s: float = 30.0  # then a picture counts as unanswered
    answer_max_bytes: int = 100 * 2**20  # as the service's own SDK accepts
    retry_first_s: float = 0.5
    retry_cap_s: float = 8.0
    healthy_s: float = 20.0  # of answers, until failures are forgotten


class _Connect(connect):
    """websockets follows redirects, and would show the key, which is its subprotocol, to whatever host they name."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Take a redirect for the refusal that it is."""
        return exc


async def dial(service: Service, limits: Limits) -> ClientConnection:
    """An open connection. Raises what websockets, the network and time raise, for `refusal.classify`."""
    async with asyncio.timeout(limits.open_s):
        connection = await _Connect(
            service.url,
            subprotocols=[Subprotocol(service.key)],
            compression=None,  # JPEG does not deflate
            max_size=limits.answer_max_bytes,
            ping_interval=limits.ping_every_s,
            ping_timeout=limits.pong_s,
            close_timeout=limits.close_s,
            open_timeout=None,
            proxy=None if service.direct else True,
            user_agent_header=f"nvision-hub/{__version__}",
        )
    raw = connection.transport.get_extra_info("socket")
    if raw is not None and raw.family in {socket.AF_INET, socket.AF_INET6}:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(limits.unacknowledged_s * 1000))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, limits.unsent_bytes)
    return connection


async def hang_up(connection: ClientConnection, limits: Limits) -> None:
    """Say goodbye where that is quick; cut off where it is not."""
    try:
        async with asyncio.timeout(limits.close_s):
            await connection.close()
    except (TimeoutError, WebSocketException, OSError):
        connection.transport.abort()
