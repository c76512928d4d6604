"""Limit on the viewers of the live view that have not sent a token."""

from __future__ import annotations

import asyncio
from typing import Any

from workers.gateway.live.live_view import MAX_UNAUTHENTICATED, LiveView


class SilentSocket:
    """Connection of a viewer that sends nothing."""

    async def accept(self) -> None:
        pass

    async def receive_json(self) -> None:
        await asyncio.Event().wait()


async def test_viewers_that_connect_at_once_stay_below_the_limit() -> None:
    unused: Any = None
    live = LiveView(unused, unused, unused, unused)
    socket: Any = SilentSocket()
    viewers = [asyncio.create_task(live.serve(socket)) for _ in range(3 * MAX_UNAUTHENTICATED)]
    for _ in range(10):  # passes of the event loop, in which the rejected viewers end
        await asyncio.sleep(0)
    assert [viewer.done() for viewer in viewers] == [True] * (2 * MAX_UNAUTHENTICATED) + [False] * MAX_UNAUTHENTICATED
    for viewer in viewers:
        viewer.cancel()
    await asyncio.wait(viewers)
