"""Results to the embedded broker: how many a second a hub's processes publish, and how soon a subscriber has one.

As in a hub, each camera has a process of its own, which publishes and streams its results in transactions; here they
make them up instead of receiving them. The broker is the real one, with its real configuration.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import redis

from tests.bench.report import Goal, Report, percentile
from tests.support.redis_server import KeptValkey

_ROOT: Final = Path(__file__).parents[2]
CAMERAS: Final = 8
EVENTS_LEAST: Final = 5_000
RATE: Final = 200
P50_MOST_MS: Final = 2.0
P99_MOST_MS: Final = 10.0
_ENDED_WITHIN_S: Final = 120.0


def run(*, quick: bool) -> Report:
    """Throughput of one and of several processes, then the delay at a steady rate."""
    report = Report(name="publish", columns=["processes", "events", "events/s", "result to subscriber p50", "p99"])
    with tempfile.TemporaryDirectory(prefix="nvision-bench-") as folder:
        broker = KeptValkey(folder=Path(folder) / "broker")
        broker.start()
        try:
            alone = _throughput(broker.url, 1, 2_000 if quick else 10_000)
            many = _throughput(broker.url, CAMERAS, 2_000 if quick else 10_000)
            delays = _delays_ms(broker.url, 5.0 if quick else 30.0)
        finally:
            broker.close()
    for processes, (events, rate) in ((1, alone), (CAMERAS, many)):
        report.rows.append([f"{processes}, as fast as they can", f"{events}", f"{rate:.0f}", "", ""])
    p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
    report.rows.append([f"1, at {RATE}/s", f"{len(delays)}", f"{RATE}", f"{p50:.2f} ms", f"{p99:.2f} ms"])
    report.goals += [
        Goal(what=f"{EVENTS_LEAST} events/s / those of {CAMERAS} processes", value=EVENTS_LEAST / many[1], at_most=1),
        Goal(what=f"result to subscriber at {RATE}/s, p50, ms", value=p50, at_most=P50_MOST_MS),
        Goal(what=f"result to subscriber at {RATE}/s, p99, ms", value=p99, at_most=P99_MOST_MS),
    ]
    return report


def _publisher(url: str, number: int, rate: float, count: int) -> subprocess.Popen[str]:
    settings = {"url": url, "camera": f"camera{number}", "rate": rate, "count": count}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.publisher_program", json.dumps(settings)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _go(processes: list[subprocess.Popen[str]]) -> None:
    """Let all begin at once, when all are ready."""
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def _told(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=_ENDED_WITHIN_S)
    told: dict[str, Any] = json.loads(output)
    assert told["lost"] == 0
    return told


def _throughput(url: str, processes: int, count: int) -> tuple[int, float]:
    """How many were published, and how many a second from the first one's beginning to the last one's end."""
    running = [_publisher(url, number, 0, count) for number in range(processes)]
    _go(running)
    told = [_told(process) for process in running]
    published = int(sum(each["published"] for each in told))
    return published, published / (max(each["ended"] for each in told) - min(each["began"] for each in told))


def _delays_ms(url: str, seconds: float) -> list[float]:
    """From the moment that a result is there to the moment that a subscriber has read it, milliseconds."""
    count = int(seconds * RATE)
    delays: list[float] = []
    with redis.Redis.from_url(url) as client, client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.psubscribe("bench:results:*")
        heard.get_message(timeout=_ENDED_WITHIN_S)
        process = _publisher(url, 0, RATE, count)
        _go([process])
        while len(delays) < count:
            message = heard.get_message(timeout=_ENDED_WITHIN_S)
            if message is not None:
                now = time.monotonic()
                delays.append(1000 * (now - json.loads(message["data"])["hub"]["published_mono"]))
        _told(process)
    return delays
