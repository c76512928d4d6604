"""Dispatcher: runs the delivery pipelines of all webhooks in one process and reports their status."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from nvision_hub.broker.client import open_client
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.process_stats import ProcessStats
from nvision_hub.runtime.status import Deadline, Status, WebhooksInfo
from nvision_hub.runtime.worker import DrainStep, run_worker
from workers.webhooks.endpoint import DRAIN_TIMEOUT_S, Endpoint

if TYPE_CHECKING:
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
    from workers.webhooks.settings import WebhooksSettings

LOOP_TIMEOUT_S: Final = 10.0


async def dispatch(settings: WebhooksSettings, pipe: SupervisorPipe) -> None:
    meter = Meter()
    usage = ProcessStats(meter)
    async with open_client(settings.stream.url) as client:
        endpoints = {each.id: Endpoint(each, settings, client=client, meter=meter) for each in settings.webhooks}

        def snapshot() -> Status:
            usage.update()
            return Status(
                state="running",
                ready=all(endpoint.ready for endpoint in endpoints.values()),
                error=next((endpoint.error for endpoint in endpoints.values() if endpoint.error is not None), None),
                deadlines={"event loop": Deadline(at=time.monotonic(), timeout_s=LOOP_TIMEOUT_S)},
                metrics=meter.snapshot(),
                info=WebhooksInfo(webhooks=tuple(endpoint.row for endpoint in endpoints.values())),
            )

        async def drain() -> None:
            await asyncio.gather(*(endpoint.drain() for endpoint in endpoints.values()))

        await run_worker(
            pipe,
            snapshot,
            tasks={name: endpoint.run() for name, endpoint in endpoints.items()},
            drain=[DrainStep(run=drain, timeout_s=2 * DRAIN_TIMEOUT_S)],
        )
