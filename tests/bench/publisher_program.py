"""One process that publishes like a camera's worker: `python -m tests.bench.publisher_program SETTINGS`.

SETTINGS is JSON: `{"url", "camera", "rate", "count"}`. A rate of 0 means full speed. The program writes an empty line
when it is ready and starts when it reads a line on standard input. At the end, it writes `{"began", "ended",
"published", "lost"}` with CLOCK_MONOTONIC times. Each event carries the time of its publish call.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Final

from nvision_hub.broker.client import RedisSettings
from nvision_hub.broker.publisher import Publisher
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision.result_events import new_id

_MAX_UNDER_WAY: Final = 512


def event(camera: str, sequence: int) -> dict[str, Any]:
    """Return a result of typical size, with three detections."""
    name = new_id()
    found = {"name": "person", "parent": "human", "confidence": 0.91}
    return {
        "service_id": "bench",
        "source_id": camera,
        "frame_id": name,
        "detected_objects": [
            {**found, "bounding_box": {"left": 10, "top": 20, "right": 110, "bottom": 220}} for _ in range(3)
        ],
        "hub": {
            "id": name,
            "site": "bench",
            "camera": camera,
            "labels": {"floor": "1"},
            "service": "object-detection",
            "via": "websocket",
            "captured_at": "2026-11-22T14:00:00.120Z",
            "sent_at": "2026-11-22T14:00:00.131Z",
            "received_at": "2026-11-22T14:00:00.262Z",
            "width": 1280,
            "height": 720,
            "jpeg_bytes": 70123,
            "sequence": sequence,
            "published_mono": time.monotonic(),
        },
    }


async def main(settings: dict[str, Any]) -> None:
    camera, rate, count = settings["camera"], settings["rate"], settings["count"]
    meter = Meter()
    publisher = Publisher(RedisSettings(url=settings["url"], prefix="bench", max_entries=100_000), meter)
    publishing = asyncio.create_task(publisher.run())
    print(flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    for sequence in range(count):
        if rate:
            await asyncio.sleep(max(0.0, began + sequence / rate - time.monotonic()))
        while publisher.results_waiting >= _MAX_UNDER_WAY:  # noqa: ASYNC110 - the publisher has no event to wait for
            await asyncio.sleep(0)
        publisher.publish(camera, event(camera, sequence))
    await publisher.drain(60.0)
    await publishing
    ended = time.monotonic()
    outcome = {"began": began, "ended": ended, "published": meter.value(catalogue.RESULTS_PUBLISHED_TOTAL)}
    print(json.dumps({**outcome, "lost": meter.total(catalogue.RESULTS_LOST_TOTAL)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
