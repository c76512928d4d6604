"""Wakes everybody who waits for something to change, whatever it is that changed."""

from __future__ import annotations

import asyncio
import contextlib


class Bell:
    """Rung by whoever changes something. It is not remembered: who listens later hears the next ring."""

    def __init__(self) -> None:
        self.next = asyncio.Event()  # the next ring; whoever keeps it cannot miss that one

    def ring(self) -> None:
        """Wake all who wait now."""
        self.next.set()
        self.next = asyncio.Event()

    async def wait(self, within_s: float) -> None:
        """Wait for the next ring, `within_s` at most."""
        ring = self.next
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await ring.wait()
