"""One process that publishes as a camera's worker does: `python -m tests.bench.publisher_program SETTINGS`.

SETTINGS is JSON: `{"url", "camera", "rate", "count"}`; a rate of 0 is as fast as Redis takes it. Waits for a line on
standard input after it has written one, and in the end writes `{"began", "ended", "published", "lost"}`, the times
CLOCK_MONOTONIC. Each event carries the moment at which it was handed to the publisher.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Final

from nvision_hub.broker import Publisher
from nvision_hub.broker.connection import Stream
from nvision_hub.events import new_id
from nvision_hub.status import Meter

_UNDER_WAY_MOST: Final = 512


def event(camera: str, sequence: int) -> dict[str, Any]:
    """One result with three detections, as large as they usually are."""
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
    publisher = Publisher(Stream(url=settings["url"], prefix="bench", max_entries=100_000), meter)
    publishing = asyncio.create_task(publisher.run())
    print(flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    for sequence in range(count):
        if rate:
            await asyncio.sleep(max(0.0, began + sequence / rate - time.monotonic()))
        while publisher.results_waiting >= _UNDER_WAY_MOST:  # noqa: ASYNC110 - nothing tells when it is fewer
            await asyncio.sleep(0)
        publisher.publish(camera, event(camera, sequence))
    await publisher.drain(60.0)
    await publishing
    ended = time.monotonic()
    told = {"began": began, "ended": ended, "published": meter.value("results_published_total")}
    print(json.dumps({**told, "lost": meter.total("results_lost_total")}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
