"""Several uplinks of a hub in one process: `python -m tests.support.uplinks_program URL FD FIRST COUNT`.

Each uplink streams one small frame per second with the product's limits. Each uplink has its own key, `KEY-N`, so that
the service can distinguish the uplinks. FD is an inherited pipe to the hub's supervisor. On SIGTERM, the program prints
a line of JSON with the number of sent frames and whether every account is settled, and exits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING

from nvision_hub.nvision.connection import ClientTimeouts
from nvision_hub.runtime.messages import MAX_RECORD_BYTES, ReconnectTurnGranted, decode, encode
from tests.support.recorder import KEY
from tests.support.uplinks import feeding
from workers.camera.connection_turns import ReconnectTurn

if TYPE_CHECKING:
    from nvision_hub.runtime.messages import TurnRequest


class Turns:
    """Reconnect turns of several uplinks over one pipe. The supervisor grants turns in the order of the requests."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe
        self._requested: deque[ReconnectTurn] = deque()
        asyncio.get_running_loop().add_reader(pipe, self._on_grant)

    def turn(self, service: str) -> ReconnectTurn:
        def send(request: TurnRequest) -> bool:
            self._pipe.send(encode(request))
            self._requested.append(turn)
            return True

        turn = ReconnectTurn(send, service)
        return turn

    def _on_grant(self) -> None:
        granted = decode(self._pipe.recv(MAX_RECORD_BYTES))
        assert isinstance(granted, ReconnectTurnGranted)
        self._requested.popleft().on_granted(granted.delay_s)


async def main(url: str, pipe: socket.socket, first: int, count: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    turns = Turns(pipe)
    async with contextlib.AsyncExitStack() as stack:
        feeds = [
            await stack.enter_async_context(
                feeding(
                    url,
                    fps=1.0,
                    timeouts=ClientTimeouts(),
                    jpeg_bytes=2_000,
                    reconnect_turn=turns.turn(url),
                    source_id=f"camera-{number}",
                    key=f"{KEY}-{number}",
                )
            )
            for number in range(first, first + count)
        ]
        await stop.wait()
    ledgers = [feed.ledger for feed in feeds]
    print(json.dumps({"sent": sum(each.sent for each in ledgers), "settled": all(each.settled for each in ledgers)}))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as own_end:
        asyncio.run(main(sys.argv[1], own_end, int(sys.argv[3]), int(sys.argv[4])))
