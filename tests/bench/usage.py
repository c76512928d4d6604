"""Measure reports of the usage of 200 cameras over 400 days, from a real gateway that reads the ledger's database."""

from __future__ import annotations

import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from nvision_hub.broker.client import RedisSettings
from nvision_hub.budget.period_budget import Instant
from tests.bench.report import Goal, Report, median
from tests.support.gateway import SupervisedGateway
from tests.support.redis_server import KeptValkey
from workers.gateway.settings import GatewaySettings, UsageSettings
from workers.ledger.usage_store import SLOT_S, UsageKey, UsageStore, UsedImages, slot_of

CAMERAS: Final = 200
DAYS: Final = 400
SLOTS: Final = 86_400 // SLOT_S
ZONE: Final = "Asia/Bangkok"
MAX_REPORT_MS: Final = 300.0


def run(*, quick: bool) -> Report:
    """Store an image count for each camera and 15 minutes. `quick` stores only every 32nd slot, and the same days."""
    report = Report(name="usage", columns=[f"{CAMERAS} cameras, {DAYS} days", "median", "longest"])
    with tempfile.TemporaryDirectory(prefix="nvision-bench-") as folder:
        file, broker = Path(folder) / "ledger" / "usage.sqlite3", KeptValkey(folder=Path(folder))
        rows = _fill(file, every=32 if quick else 1)
        broker.start()
        gateway = SupervisedGateway(
            settings=GatewaySettings(
                host="127.0.0.1",
                port=0,
                loopback=True,
                site="bench",
                stream=RedisSettings(url=broker.url, prefix="nvision", max_entries=1000),
                usage=UsageSettings(file=file, price_per_image=0.0004, currency="USD"),
            )
        )
        gateway.start()
        try:
            for by in ("camera", "day", "month"):
                times = _times_ms(gateway, by)
                report.rows.append([f"by {by}", f"{median(times):.0f} ms", f"{max(times):.0f} ms"])
                report.goals.append(Goal.of(f"report by {by}, ms", times, at_most=MAX_REPORT_MS))
        finally:
            gateway.close()
            broker.close()
    report.rows.append(["rows of 15 minutes in the database", f"{rows:,}", ""])
    return report


def _fill(file: Path, *, every: int) -> int:
    """Fill the database day by day. Return the number of rows."""
    rng, now = random.Random(1), time.time()  # noqa: S311 - determines counts, not secrets
    store, rows = UsageStore(file, ZONE), 0
    for day in reversed(range(DAYS)):
        first = slot_of(now) - (day + 1) * 86_400 + SLOT_S
        used = {
            UsageKey(first + number * SLOT_S, f"camera-{camera:03}"): UsedImages(rng.randint(0, 4500))
            for number in range(0, SLOTS, every)
            for camera in range(CAMERAS)
        }
        store.commit(used, {}, Instant(now, time.monotonic()))
        rows += len(used)
    store.close()
    return rows


def _times_ms(gateway: SupervisedGateway, by: str) -> list[float]:
    begin = datetime.now(UTC).date() - timedelta(days=DAYS)
    times = []
    with gateway.client() as client:
        for _ in range(10):
            began = time.monotonic()
            answer = client.get("/api/v1/usage", params={"by": by, "from": f"{begin}"}).raise_for_status().json()
            times.append(1000 * (time.monotonic() - began))
            assert answer["total"]["images"] > 0
    return times
