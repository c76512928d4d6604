"""Slot to connect to the camera and turn to reconnect to Nvision. The supervisor grants both.

If a worker cannot send its request to the supervisor, it connects immediately.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from typing import TYPE_CHECKING, Final

from nvision_hub.runtime.messages import (
    MAX_RECONNECT_DELAY_S,
    ReleaseConnectSlot,
    RequestConnectSlot,
    RequestReconnectTurn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvision_hub.runtime.messages import TurnRequest

GRANT_TIMEOUT_S: Final = 21.0  # the supervisor grants every slot within 20 s
TURN_TIMEOUT_S: Final = 1.0  # the supervisor replies immediately


class ConnectSlot:
    """Slot to connect to the camera. The capture thread waits for the slot, and the event loop calls `wake`."""

    def __init__(self, send: Callable[[TurnRequest], bool]) -> None:
        self._send = send
        self._wake = threading.Event()

    @contextlib.contextmanager
    def held(self, interrupted: threading.Event) -> Iterator[None]:
        """Wait for a slot unless `interrupted` is set, and hold the slot during the body of the `with` statement."""
        self._wake.clear()
        if self._send(RequestConnectSlot()) and not interrupted.is_set():
            self._wake.wait(GRANT_TIMEOUT_S)
        try:
            yield
        finally:
            self._send(ReleaseConnectSlot())

    def wake(self) -> None:
        """End the wait. Called after the supervisor has granted the slot or `interrupted` was set."""
        self._wake.set()


class ReconnectTurn:
    """Turn to reconnect to one service."""

    def __init__(self, send: Callable[[TurnRequest], bool], service: str) -> None:
        self._send = send
        self._service = service
        self._granted: asyncio.Future[float] | None = None

    async def wait(self) -> None:
        self._granted = asyncio.get_running_loop().create_future()
        if not self._send(RequestReconnectTurn(service=self._service)):
            return
        try:
            delay_s = await asyncio.wait_for(self._granted, TURN_TIMEOUT_S)
        except TimeoutError:
            delay_s = random.uniform(0.0, MAX_RECONNECT_DELAY_S)  # noqa: S311 - spreads reconnects, protects nothing
        await asyncio.sleep(delay_s)

    def on_granted(self, delay_s: float) -> None:
        """Record the number of seconds until the turn."""
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(delay_s)
