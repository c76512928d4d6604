"""The dispatcher's settings and its entry point; what it is made of is loaded when it starts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workers.webhooks.schedule import Pace

if TYPE_CHECKING:
    from nvision_hub.broker.publisher import Stream
    from nvision_hub.config import Webhook
    from nvision_hub.link import Link


@dataclass(frozen=True, kw_only=True)
class WebhooksSettings:
    """Which webhooks, and where their results come from. `pace` is no key of cameras.yaml.

    `since` is when they were asked for: what comes between that and a webhook's first start is owed to it.
    """

    webhooks: tuple[Webhook, ...]
    stream: Stream
    site: str
    pace: Pace = field(default_factory=Pace)
    # No difference: a file that is read again asks for what runs already.
    since: datetime = field(default_factory=lambda: datetime.now(UTC), compare=False)


def run(settings: WebhooksSettings, link: Link) -> None:
    """Deliver until asked to end."""
    # Only now: the HTTP client is this process's alone, and would be everybody's if the supervisor loaded it.
    from workers.webhooks.dispatcher import dispatch  # noqa: PLC0415

    asyncio.run(dispatch(settings, link))
