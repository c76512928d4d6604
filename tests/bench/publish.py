"""Measure publishing to the embedded broker: results per second from several processes, and delay to a subscriber.

As in a hub, each camera has its own process, which publishes its results and adds them to the stream in transactions.
The processes generate the results instead of receiving them. The embedded broker has the configuration of a real hub.
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
MIN_EVENTS: Final = 5_000
RATE: Final = 200
MAX_P50_MS: Final = 2.0
MAX_P99_MS: Final = 10.0
_ENDED_TIMEOUT_S: Final = 120.0


def run(*, quick: bool) -> Report:
    """Measure the throughput of one and of several processes, then the delay at a steady rate."""
    report = Report(name="publish", columns=["processes", "events", "events/s", "result to subscriber, p50", "p99"])
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
        report.rows.append([f"{processes}, at full speed", f"{events}", f"{rate:.0f}", "", ""])
    p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
    report.rows.append([f"1, at {RATE}/s", f"{len(delays)}", f"{RATE}", f"{p50:.2f} ms", f"{p99:.2f} ms"])
    report.goals += [
        Goal(what=f"{MIN_EVENTS} events/s / those of {CAMERAS} processes", value=MIN_EVENTS / many[1], at_most=1),
        Goal(what=f"result to subscriber at {RATE}/s, p50, ms", value=p50, at_most=MAX_P50_MS),
        Goal(what=f"result to subscriber at {RATE}/s, p99, ms", value=p99, at_most=MAX_P99_MS),
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
    """Wait until all processes are ready, then start all of them at once."""
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def _outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=_ENDED_TIMEOUT_S)
    outcome: dict[str, Any] = json.loads(output)
    assert outcome["lost"] == 0
    return outcome


def _throughput(url: str, processes: int, count: int) -> tuple[int, float]:
    """Return the number of published results, and their rate per second from the first start to the last end."""
    running = [_publisher(url, number, 0, count) for number in range(processes)]
    _go(running)
    outcomes = [_outcome(process) for process in running]
    published = int(sum(each["published"] for each in outcomes))
    return published, published / (max(each["ended"] for each in outcomes) - min(each["began"] for each in outcomes))


def _delays_ms(url: str, seconds: float) -> list[float]:
    """Return the delay of each result from the publish call until a subscriber has read it, in milliseconds."""
    count = int(seconds * RATE)
    delays: list[float] = []
    with redis.Redis.from_url(url) as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.psubscribe("bench:results:*")
        subscription.get_message(timeout=_ENDED_TIMEOUT_S)
        process = _publisher(url, 0, RATE, count)
        _go([process])
        while len(delays) < count:
            message = subscription.get_message(timeout=_ENDED_TIMEOUT_S)
            if message is not None:
                now = time.monotonic()
                delays.append(1000 * (now - json.loads(message["data"])["hub"]["published_mono"]))
        _outcome(process)
    return delays
