"""Joins the endpoints of all webhooks, which do not know each other, and answers for them to the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.broker.publisher import connect
from nvision_hub.link import status_basis
from nvision_hub.status import Meter, Promise, Status
from nvision_hub.usage import Usage
from workers.webhooks.endpoint import Endpoint

if TYPE_CHECKING:
    from nvision_hub.link import Link
    from workers.webhooks.webhooks import WebhooksSettings

LOOP_WITHIN_S: Final = 10.0


async def dispatch(settings: WebhooksSettings, link: Link) -> None:
    """Deliver until the link says to end."""
    meter = Meter()
    usage = Usage(meter)
    client = connect(settings.stream.url)
    endpoints = [
        Endpoint(
            webhook,
            client=client,
            prefix=settings.stream.prefix,
            site=settings.site,
            meter=meter,
            pace=settings.pace,
            since=settings.since,
        )
        for webhook in settings.webhooks
    ]

    def snapshot() -> Status:
        usage.note()
        return Status(
            **status_basis("running"),
            ready=all(endpoint.ready for endpoint in endpoints),
            error=next((endpoint.error for endpoint in endpoints if endpoint.error is not None), None),
            promises={"event loop": Promise(at=time.monotonic(), within_s=LOOP_WITHIN_S)},
            metrics=meter.snapshot(),
            row={"webhooks": [endpoint.row for endpoint in endpoints]},
        )

    running = [asyncio.create_task(endpoint.run()) for endpoint in endpoints]
    reporting = asyncio.create_task(link.run(snapshot))
    await asyncio.wait({*running, reporting}, return_when=asyncio.FIRST_COMPLETED)
    if reporting.done():
        await asyncio.gather(*(endpoint.drain() for endpoint in endpoints))
    for task in (*running, reporting):
        task.cancel()
    ends = await asyncio.gather(*running, reporting, return_exceptions=True)
    link.report(snapshot())
    for endpoint in endpoints:
        await endpoint.close()
    with contextlib.suppress(RedisError, OSError):
        await client.aclose()
    for end in ends:
        if isinstance(end, Exception):
            raise end
