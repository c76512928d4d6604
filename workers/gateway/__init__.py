"""Gateway: ops page, API, metrics and Nvision's callback."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nvision_hub.media.memory_limits import cap_memory

if TYPE_CHECKING:
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
    from workers.gateway.settings import GatewaySettings


def run(settings: GatewaySettings, pipe: SupervisorPipe) -> None:
    """Serve until the supervisor requests a stop. Raises `UnavailableError` if the gateway cannot listen."""
    # Import inside the function. Otherwise, all processes would inherit the module from the supervisor.
    from workers.gateway.server import serve  # noqa: PLC0415

    cap_memory()
    asyncio.run(serve(settings, pipe))
