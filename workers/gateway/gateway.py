"""The gateway's settings and its entry point; what it is made of is loaded when it starts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nvision_hub.broker.publisher import Stream
    from nvision_hub.broker.spool import SpoolPlace
    from nvision_hub.config import Secret
    from nvision_hub.link import Link


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Where the gateway listens, and whom it serves.

    `port` 0 takes a free one, which the status tells. `token` None leaves the API open to whoever reaches it, which
    the configuration allows on loopback only; `callback_token` None means that there is no callback endpoint. `hosts`
    are names under which a proxy serves it. `spool` None keeps what waits for Redis in memory alone. `fleet` are
    the cameras of other hubs, in the order of their file, that it shows and controls through Redis; None where this
    hub is all there is.
    """

    host: str
    port: int
    loopback: bool
    site: str
    stream: Stream
    token: Secret | None = None
    callback_token: Secret | None = None
    callback_max_bytes: int = 8 * 2**20
    hosts: tuple[str, ...] = ()
    spool: SpoolPlace | None = None
    fleet: tuple[str, ...] | None = None


def run(settings: GatewaySettings, link: Link) -> None:
    """Serve until the link says to end. Raises `UnavailableError` where the port is taken."""
    # Only now: web server, API and metrics are this process's alone, and the others must not carry them.
    from workers.gateway.server import serve  # noqa: PLC0415

    asyncio.run(serve(settings, link))
