"""Some uplinks of a hub in one process: `python -m tests.support.uplinks_program URL TURNS FIRST COUNT`.

Each streams a small picture a second with the product's own limits and a key of its own, `KEY-N`, so that the service
can tell them apart; the file TURNS is that of their hub. Ends on SIGTERM, and prints a line of JSON then: how many
pictures they have sent, and whether each of their ledgers is settled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

from tests.support.recorder import KEY
from tests.support.uplinks import feeding
from workers.camera.dial import Limits
from workers.camera.pace import Pace


async def main(url: str, turns: Path, first: int, count: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        feeds = [
            await stack.enter_async_context(
                feeding(
                    url,
                    fps=1.0,
                    limits=Limits(),
                    jpeg_bytes=2_000,
                    pace=Pace(file=turns),
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
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
