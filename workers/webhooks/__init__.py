"""Webhooks: delivery of results to the endpoints in cameras.yaml."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
    from workers.webhooks.settings import WebhooksSettings


def run(settings: WebhooksSettings, pipe: SupervisorPipe) -> None:
    """Deliver until the supervisor requests a stop."""
    # Not imported at the top, because all processes would then inherit the module from the supervisor.
    from workers.webhooks.worker import dispatch  # noqa: PLC0415

    asyncio.run(dispatch(settings, pipe))
