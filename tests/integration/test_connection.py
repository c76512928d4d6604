"""The hub's client of a real Redis: a task that is cancelled in the middle of a command ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nvision_hub.broker.connection import connect

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.support.redis_server import Server


async def test_a_cancelled_task_ends_wherever_its_command_was(redis_server: Server) -> None:
    async def ask_for_ever(client: Redis) -> None:
        while True:
            await client.execute_command("ECHO", "a")  # type: ignore[no-untyped-call]

    for turns in range(300):
        client = connect(redis_server.url)
        asking = asyncio.create_task(ask_for_ever(client))
        for _ in range(turns % 60):  # a command takes some ten turns of the loop: each of its moments is met
            await asyncio.sleep(0)
        asking.cancel()
        done, _ = await asyncio.wait({asking}, timeout=20)
        assert done, f"cancelled after {turns % 60} turns, it lives on"
        await client.aclose()
