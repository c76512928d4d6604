"""Several uplinks of a hub in one process: `python -m tests.support.uplinks_program URL FD FIRST COUNT`.

Each uplink streams one small frame per second with the product's limits. Each uplink has its own key, `KEY-N`, by which
the service can distinguish the uplinks. FD is an inherited pipe to the hub's supervisor. On SIGTERM, the program prints
a line of JSON and exits. The line contains the number of sent frames, whether every account is settled, and the turns
of the uplinks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from nvision_hub.nvision.connection import ClientTimeouts
from nvision_hub.runtime.messages import MAX_RECORD_BYTES, ReconnectTurnGranted, decode, encode
from tests.support.patience import PATIENCE_S
from tests.support.recorder import KEY
from tests.support.uplinks import feeding
from workers.camera import connection_turns
from workers.camera.connection_turns import ReconnectTurn

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.runtime.messages import TurnRequest


class RecordedTurn(ReconnectTurn):
    """Turn that counts its waits, and the waits that ended before the turn."""

    def __init__(self, send: Callable[[TurnRequest], bool], service: str) -> None:
        super().__init__(send, service)
        self.waits = self.ended_early = 0
        self._turn_at = float("inf")  # CLOCK_MONOTONIC

    async def wait(self) -> None:
        self._turn_at = float("inf")
        await super().wait()
        self.waits += 1
        self.ended_early += time.monotonic() < self._turn_at

    def on_granted(self, delay_s: float) -> None:
        self._turn_at = time.monotonic() + delay_s
        super().on_granted(delay_s)


class Turns:
    """Reconnect turns of several uplinks over one pipe. The supervisor grants turns in the order of the requests."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe
        self._requested: deque[RecordedTurn] = deque()
        asyncio.get_running_loop().add_reader(pipe, self._on_grant)

    def turn(self, service: str) -> RecordedTurn:
        def send(request: TurnRequest) -> bool:
            self._pipe.send(encode(request))
            self._requested.append(turn)
            return True

        turn = RecordedTurn(send, service)
        return turn

    def _on_grant(self) -> None:
        granted = decode(self._pipe.recv(MAX_RECORD_BYTES))
        assert isinstance(granted, ReconnectTurnGranted)
        self._requested.popleft().on_granted(granted.delay_s)


async def main(url: str, pipe: socket.socket, first: int, count: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connection_turns.TURN_TIMEOUT_S = PATIENCE_S  # type: ignore[misc]  # on a busy machine, the granter may be slow
    pending = Turns(pipe)
    turns = [pending.turn(url) for _ in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        feeds = [
            await stack.enter_async_context(
                feeding(
                    url,
                    fps=1.0,
                    timeouts=ClientTimeouts(),
                    jpeg_bytes=2_000,
                    reconnect_turn=turn,
                    source_id=f"camera-{number}",
                    key=f"{KEY}-{number}",
                )
            )
            for number, turn in enumerate(turns, start=first)
        ]
        await stop.wait()
        uplinks = [
            {
                "waits": turn.waits,
                "ended_early": turn.ended_early,
                # A connected uplink has waited after each failure. Another uplink may be about to wait after its last
                # failure.
                "without_wait": feed.counted("uplink_reconnects_total") - turn.waits - (not feed.uplink.connected),
            }
            for turn, feed in zip(turns, feeds, strict=True)
        ]
    ledgers = [feed.ledger for feed in feeds]
    summary = {
        "sent": sum(each.sent for each in ledgers),
        "settled": all(each.settled for each in ledgers),
        "uplinks": uplinks,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as own_end:
        asyncio.run(main(sys.argv[1], own_end, int(sys.argv[3]), int(sys.argv[4])))
