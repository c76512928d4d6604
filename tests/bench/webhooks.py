"""Measure one dispatcher with one endpoint that responds immediately: deliveries per second, and CPU time per delivery.

The endpoint is a separate process with a minimal HTTP server. Redis is the embedded broker. The dispatcher delivers a
backlog, so that only the dispatcher limits the rate.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from tests.bench.bench import cpu_s, wait
from tests.bench.report import Goal, Report, median
from tests.support.dispatching import Dispatcher, event, webhook
from tests.support.receiver import OTHER_SECRET, SECRET, Receiver
from tests.support.redis_server import KeptValkey

DELIVERED_PER_S: Final = 1000
PAGE: Final = 500
DEADLINE_S: Final = 120.0
FOUND: Final = (("person", 0.91), ("car", 0.87), ("car", 0.66))
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "all of it": {},
    "one of three detections": {"classes": ["person"]},
    "two secrets": {"secret": [SECRET, OTHER_SECRET]},
}


def run(*, quick: bool) -> Report:
    """Run each case three times. Other work can only slow a run, so the fastest run and the median CPU time count."""
    events, runs = (2_000, 1) if quick else (10_000, 3)
    report = Report(name="webhooks", columns=["webhooks", "deliveries/s", "dispatcher CPU per delivery"])
    for name, options in VARIANTS.items():
        figures = [_run(events, options) for _ in range(runs)]
        rates = sorted(rate for rate, _ in figures)
        cpu_ms = 1000 * median([cpu for _, cpu in figures])
        report.rows.append([name, ", ".join(f"{rate:.0f}" for rate in rates), f"{cpu_ms:.2f} ms"])
        report.goals += [
            Goal(what=f"{name}: ms per delivery", value=1000 / rates[-1], at_most=1000 / DELIVERED_PER_S),
            Goal(what=f"{name}: ms of CPU per delivery", value=cpu_ms, at_most=1000 / DELIVERED_PER_S),
        ]
    return report


def _run(events: int, options: dict[str, Any]) -> tuple[float, float]:
    """Return the deliveries per second, and the dispatcher's CPU time per delivery in seconds."""
    with tempfile.TemporaryDirectory(prefix="nvision-webhooks-") as name:
        folder = Path(name)
        broker = KeptValkey(folder=folder / "broker")
        receiver = Receiver(folder=folder, behaviors={"*": {"record": False, "status": 410}})
        dispatcher: Dispatcher | None = None
        try:
            broker.start()
            receiver.start()
            dispatcher = Dispatcher(url=broker.url, webhooks=[webhook("bench", receiver.url(), **options)])
            dispatcher.start()
            return _delivered(dispatcher, receiver, events)
        finally:
            if dispatcher is not None:
                dispatcher.kill()
            receiver.kill()
            broker.close()


def _delivered(dispatcher: Dispatcher, receiver: Receiver, events: int) -> tuple[float, float]:
    # The status 410 to the first event disables the webhook. The remaining events accumulate in the stream.
    dispatcher.publish(event(0, *FOUND))
    dispatcher.wait_for_row(lambda row: row["state"] == "disabled")
    for start in range(0, events, PAGE):
        dispatcher.publish(*(event(start + number, *FOUND) for number in range(PAGE)))
    dispatcher.kill()
    receiver.set_behavior(record=False)
    dispatcher.enable("bench")
    before = receiver.count()
    dispatcher.start()
    assert dispatcher.child is not None
    process = psutil.Process(dispatcher.child.pid)
    # Skip the first tenth of the deliveries, during which connections open and late imports run.
    first = _until(receiver, before + events // 10)
    cpu = cpu_s(process)
    count = receiver.count()
    last = _until(receiver, before + events)
    done = receiver.count() - count
    return done / (last - first), (cpu_s(process) - cpu) / done


def _until(receiver: Receiver, count: int) -> float:
    deadline = time.monotonic() + DEADLINE_S
    while receiver.count() < count:
        assert time.monotonic() < deadline, f"{receiver.count()} of {count}"
        wait(0.005)
    return time.monotonic()
