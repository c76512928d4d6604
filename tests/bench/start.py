"""Measure the time from `nvision-hub start` to the first result of each demo camera in Redis, with cached clips."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import redis

from tests.bench.bench import wait
from tests.bench.report import Goal, Report, median
from tests.support.hub import broker_url
from workers.demo import worker as demo

MAX_START_S: Final = 8.0
DEADLINE_S: Final = 120.0
CONFIG: Final = {
    "version": 1,
    "site": "bench",
    "nvision": {"url": "local"},
    "redis": {"url": "embedded", "embedded_port": 0},
    "gateway": {"listen": "127.0.0.1:0"},
    "cameras": [
        {"id": scene, "url": f"demo://{scene}", "fps": fps} for scene, fps in zip(demo.SCENES, (5, 2, 1), strict=True)
    ],
}


def run(*, quick: bool) -> Report:
    """Run the command several times. The first run renders missing clips and does not count."""
    runs = [_start() for _ in range(2 if quick else 6)][1:]
    report = Report(name="start", columns=["from the command to", "median", "most"])
    for scene in demo.SCENES:
        times = [each[scene] for each in runs]
        report.rows.append([f"{scene}'s first result", f"{median(times):.2f} s", f"{max(times):.2f} s"])
    last = median([max(each.values()) for each in runs])
    report.goals.append(Goal(what="first result of all three, s", value=last, at_most=MAX_START_S))
    return report


def _start() -> dict[str, float]:
    """Return the seconds until the first result of each camera, by scene."""
    with tempfile.TemporaryDirectory(prefix="nvision-start-") as name:
        folder = Path(name)
        (folder / "cameras.yaml").write_text(json.dumps({**CONFIG, "state_dir": str(folder / "state")}))
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "nvision_hub", "start", folder / "cameras.yaml"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return _first_results(folder / "state" / "hub.json", began)
        finally:
            process.terminate()
            process.wait(15)


def _first_results(addresses: Path, began: float) -> dict[str, float]:
    found: dict[str, float] = {}
    client: redis.Redis | None = None
    while len(found) < len(demo.SCENES):
        assert time.monotonic() - began < DEADLINE_S, f"results only from {sorted(found)}"
        wait(0.02)
        with contextlib.suppress(OSError, ValueError, redis.RedisError):
            if client is None:
                client = redis.Redis.from_url(broker_url(addresses.parent), decode_responses=True)
            entries: Any = client.xrange("nvision:results")
            for _, fields in entries:
                found.setdefault(fields["camera"], time.monotonic() - began)
    assert client is not None
    client.close()
    return found
