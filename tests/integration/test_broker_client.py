"""The hub's Redis client on a real server: a task ends if it is canceled during a command."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nvision_hub.broker.client import connect
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.support.redis_server import Server


async def test_a_canceled_task_ends_at_any_point_of_its_command(redis_server: Server) -> None:
    async def repeat_command(client: Redis) -> None:
        while True:
            await client.execute_command("ECHO", "a")  # type: ignore[no-untyped-call]

    for iterations in range(300):
        client = connect(redis_server.url)
        repeating = asyncio.create_task(repeat_command(client))
        for _ in range(iterations % 60):  # a command takes about ten iterations; cancel at each
            await asyncio.sleep(0)
        repeating.cancel()
        done, _ = await asyncio.wait({repeating}, timeout=PATIENCE_S)
        assert done, f"the task still runs, canceled after {iterations % 60} iterations"
        await client.aclose()
