"""Measure a gateway with a hundred cameras: duration of a scrape, and CPU use without viewers.

The gateway is a real process. This program acts as its supervisor and sends status reports of realistic size through
the pipe.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from nvision_hub.broker.client import RedisSettings
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.messages import encode
from tests.bench.bench import cpu_s
from tests.bench.report import Goal, Report, median, percentile
from tests.support.gateway import CAMERA_PID, SupervisedGateway, facts, status
from tests.support.redis_server import KeptValkey
from workers.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    import httpx2

CAMERAS: Final = 100
MAX_SCRAPE_MS: Final = 100.0
MAX_CPU_PERCENT: Final = 10.0  # percent of a core for gateway and supervisor together; 0.1 % per camera
NAMES: Final = ("person", "car", "bus", "truck", "bicycle", "dog", "cat", "backpack")
REASONS: Final = {
    catalogue.FRAMES_DROPPED_TOTAL: ("overwritten", "late", "torn", "uplink"),
    catalogue.FRAMES_UNANSWERED_TOTAL: ("timeout", "uplink"),
    catalogue.RESULTS_LOST_TOTAL: ("unreadable", "late"),
    catalogue.CAMERA_RECONNECTS_TOTAL: ("unreachable", "stalled"),
    catalogue.UPLINK_RECONNECTS_TOTAL: ("closed", "refused"),
}
PLAIN: Final = (
    catalogue.PACKETS_RECEIVED_TOTAL,
    catalogue.FRAMES_DECODED_TOTAL,
    catalogue.FRAMES_SENT_TOTAL,
    catalogue.FRAMES_ANSWERED_TOTAL,
    catalogue.SENT_BYTES_TOTAL,
    catalogue.RESULTS_RECEIVED_TOTAL,
    catalogue.RESULTS_PUBLISHED_TOTAL,
    catalogue.WORKER_CPU_SECONDS_TOTAL,
)
GAUGES: Final = (
    catalogue.FRAMES_IN_FLIGHT,
    catalogue.RESULTS_WAITING,
    catalogue.SPOOL_EVENTS,
    catalogue.WORKER_MEMORY_BYTES,
)
HISTOGRAMS: Final = (catalogue.FRAME_AGE_SECONDS, catalogue.ROUND_TRIP_SECONDS, catalogue.PUBLISH_SECONDS)


class SyntheticCamera:
    """A camera whose counters grow with each report by as much as in one second."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self._rng = rng
        self._meter = Meter()

    def second(self) -> bytes:
        meter, rng = self._meter, self._rng
        for counter in PLAIN:
            meter.count(counter, by=rng.randint(1, 30))
        for counter, reasons in REASONS.items():
            for reason in reasons:
                meter.count(counter, by=rng.randint(0, 2), reason=reason)
        for name in NAMES:
            meter.count(catalogue.DETECTIONS_TOTAL, by=rng.randint(0, 9), name=name)
        for gauge in GAUGES:
            meter.set_gauge(gauge, rng.randint(0, 10_000_000))
        meter.set_gauge(catalogue.LAST_FRAME_TIMESTAMP_SECONDS, time.time())
        for histogram in HISTOGRAMS:
            for _ in range(5):
                meter.observe(histogram, rng.expovariate(20))
        now = time.time()
        info: dict[str, Any] = {
            "last_result_at": now,
            "last_frame_at": now,
            "since": now - 60,
            "gop_s": 2.0,
            "dropped": 1,
            "sent": 5,
        }
        return encode(status(CAMERA_PID, meter, **info))


def run(*, quick: bool) -> Report:
    """Send reports each second and scrape in between. Then send only reports."""
    seconds, scrapes = (5, 5) if quick else (20, 20)
    rng = random.Random(1)  # noqa: S311 - determines sizes, not secrets
    cameras = [SyntheticCamera(f"camera-{number:03}", rng) for number in range(CAMERAS)]
    with tempfile.TemporaryDirectory(prefix="nvision-bench-") as folder:
        broker = KeptValkey(folder=Path(folder))
        broker.start()
        gateway = SupervisedGateway(
            settings=GatewaySettings(
                host="127.0.0.1",
                port=0,
                loopback=True,
                site="bench",
                stream=RedisSettings(url=broker.url, prefix="nvision", max_entries=1000),
            )
        )
        gateway.start()
        try:
            return _measured(gateway, cameras, seconds, scrapes)
        finally:
            gateway.close()
            broker.close()


def _measured(gateway: SupervisedGateway, cameras: list[SyntheticCamera], seconds: int, scrapes: int) -> Report:
    for number, camera in enumerate(cameras):
        known = facts(camera.name, index=number)
        gateway.set_process(f"camera:{camera.name}", pid=CAMERA_PID, started_at=time.monotonic(), facts=known)
    size = _feed(gateway, cameras, 3)
    process = psutil.Process(gateway.child.pid)
    before = cpu_s(process)
    began = time.monotonic()
    _feed(gateway, cameras, seconds)
    unwatched = 100 * (cpu_s(process) - before) / (time.monotonic() - began)
    times, text = [], ""
    with gateway.client() as client:
        for _ in range(scrapes):
            _feed(gateway, cameras, 1)
            began = time.monotonic()
            text = _scrape(client)
            times.append(1000 * (time.monotonic() - began))
    samples = sum(1 for line in text.splitlines() if line and not line.startswith("#"))
    report = Report(
        name="scrape", columns=[f"{len(cameras)} cameras, a report of {size / 1024:.1f} KiB each second", ""]
    )
    report.rows += [
        ["a scrape, median / p90", f"{median(times):.0f} / {percentile(times, 0.9):.0f} ms"],
        ["samples / bytes in it", f"{samples:,} / {len(text):,}"],
        ["CPU of the gateway without viewers", f"{unwatched:.2f} % of a core"],
        ["private memory of the gateway", f"{process.memory_full_info().uss / 1e6:.0f} MB"],
    ]
    report.goals += [
        Goal(what="a scrape, ms", value=median(times), at_most=MAX_SCRAPE_MS),
        Goal(what="CPU of the gateway without viewers, % of a core", value=unwatched, at_most=MAX_CPU_PERCENT),
    ]
    return report


def _feed(gateway: SupervisedGateway, cameras: list[SyntheticCamera], seconds: int) -> float:
    """Send one report per camera each second, evenly spaced. Return the mean size of a report in bytes."""
    sizes = []
    began = time.monotonic()
    for second in range(seconds):
        for number, camera in enumerate(cameras):
            record = camera.second()
            sizes.append(len(record))
            gateway.report_bytes(f"camera:{camera.name}", record)
            due = began + second + number / len(cameras)
            time.sleep(max(0.0, due - time.monotonic()))
    return sum(sizes) / len(sizes)


def _scrape(client: httpx2.Client) -> str:
    answer = client.get("/metrics")
    answer.raise_for_status()
    return answer.text
