"""A gateway that oversees a hundred cameras: what a scrape takes, and what it costs while nobody looks.

The gateway is a real process, fed through its real pipe with reports as large as a camera's are; the supervisor that
feeds it is this program.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from nvision_hub.broker.publisher import Stream
from nvision_hub.status import Meter
from tests.bench.bench import cpu_s
from tests.bench.report import Goal, Report, median, percentile
from tests.support.gateway import CAMERA_PID, Overseen, facts, status
from tests.support.redis_server import KeptValkey
from workers.gateway.gateway import GatewaySettings

if TYPE_CHECKING:
    import httpx2

CAMERAS: Final = 100
SCRAPE_MOST_MS: Final = 100.0
CPU_MOST_PERCENT: Final = 10.0  # of a core, of gateway and supervisor together: 0.1 % for each camera
NAMES: Final = ("person", "car", "bus", "truck", "bicycle", "dog", "cat", "backpack")
REASONS: Final = {
    "frames_dropped_total": ("overwritten", "late", "torn", "uplink"),
    "frames_unanswered_total": ("timeout", "uplink"),
    "results_lost_total": ("unreadable", "late"),
    "camera_reconnects_total": ("unreachable", "stalled"),
    "uplink_reconnects_total": ("closed", "refused"),
}
PLAIN: Final = (
    "packets_received_total",
    "frames_decoded_total",
    "frames_sent_total",
    "frames_answered_total",
    "sent_bytes_total",
    "results_received_total",
    "results_published_total",
    "worker_cpu_seconds_total",
)
GAUGES: Final = ("frames_in_flight", "results_waiting", "spool_events", "worker_memory_bytes")
HISTOGRAMS: Final = ("frame_age_seconds", "round_trip_seconds", "publish_seconds")


class SyntheticCamera:
    """One that counts on, a second at a time."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self._rng = rng
        self._meter = Meter()

    def second(self) -> bytes:
        meter, rng = self._meter, self._rng
        for name in PLAIN:
            meter.count(name, by=rng.randint(1, 30))
        for name, reasons in REASONS.items():
            for reason in reasons:
                meter.count(name, by=rng.randint(0, 2), reason=reason)
        for name in NAMES:
            meter.count("detections_total", by=rng.randint(0, 9), name=name)
        for name in GAUGES:
            meter.gauge(name, rng.randint(0, 10_000_000))
        meter.gauge("last_frame_timestamp_seconds", time.time())
        for name in HISTOGRAMS:
            for _ in range(5):
                meter.observe(name, rng.expovariate(20))
        now = time.time()
        row: dict[str, Any] = {
            "last_result_at": now,
            "last_frame_at": now,
            "since": now - 60,
            "gop_s": 2.0,
            "dropped": 1,
            "sent": 5,
        }
        return status(CAMERA_PID, meter, **row).encode()


def run(*, quick: bool) -> Report:
    """Reports each second, scrapes in between, and then reports alone."""
    seconds, scrapes = (5, 5) if quick else (20, 20)
    rng = random.Random(1)  # noqa: S311 - sizes, no secrets
    cameras = [SyntheticCamera(f"camera-{number:03}", rng) for number in range(CAMERAS)]
    with tempfile.TemporaryDirectory(prefix="nvision-bench-") as folder:
        broker = KeptValkey(folder=Path(folder))
        broker.start()
        gateway = Overseen(
            settings=GatewaySettings(
                host="127.0.0.1",
                port=0,
                loopback=True,
                site="bench",
                stream=Stream(url=broker.url, prefix="nvision", max_entries=1000),
            )
        )
        gateway.start()
        try:
            return _measured(gateway, cameras, seconds, scrapes)
        finally:
            gateway.close()
            broker.close()


def _measured(gateway: Overseen, cameras: list[SyntheticCamera], seconds: int, scrapes: int) -> Report:
    for number, camera in enumerate(cameras):
        told = {**facts(camera.name), "index": number}
        gateway.account(f"camera:{camera.name}", pid=CAMERA_PID, started_at=time.monotonic(), facts=told)
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
        ["CPU of the gateway while nobody looks", f"{unwatched:.2f} % of a core"],
        ["private memory of the gateway", f"{process.memory_full_info().uss / 1e6:.0f} MB"],
    ]
    report.goals += [
        Goal(what="a scrape, ms", value=median(times), at_most=SCRAPE_MOST_MS),
        Goal(what="CPU of the gateway while nobody looks, % of a core", value=unwatched, at_most=CPU_MOST_PERCENT),
    ]
    return report


def _feed(gateway: Overseen, cameras: list[SyntheticCamera], seconds: int) -> float:
    """Every camera's report, spread over each second as they are in life; their mean size."""
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
