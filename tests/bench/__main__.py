"""Run benchmarks: `python -m tests.bench [NAME ...] [--quick] [--json]`. The exit code is 1 if a goal is missed.

`soak`, `fanout`, `overload`, `sizing`, `paired` and `detect` run only on request and have their own options:

    soak      runs a hub under random faults
    fanout    runs a hub and repeatedly kills its broker, dispatcher and endpoint
    overload  runs more cameras than the machine can handle
    sizing    measures the cost of each kind of camera
    paired    compares the CPU time with that of another checkout
    detect    measures the precision and recall of the local service's detectors

Most goals are ratios of two measurements, because other work on the machine affects both measurements.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

from tests.bench import (
    cpu,
    crowd,
    detect,
    fanout,
    fleet,
    keyframes,
    memory,
    onvif,
    overhead,
    overload,
    paired,
    publish,
    rates,
    scrape,
    service,
    sizing,
    soak,
    start,
    storm,
    tracks,
    usage,
    webhooks,
)
from tests.bench.report import summary

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS: Final = {
    "start": start.run,
    "rates": rates.run,
    "cpu": cpu.run,
    "keyframes": keyframes.run,
    "memory": memory.run,
    "crowd": crowd.run,
    "fleet": fleet.run,
    "publish": publish.run,
    "overhead": overhead.run,
    "scrape": scrape.run,
    "usage": usage.run,
    "webhooks": webhooks.run,
    "storm": storm.run,
    "tracks": tracks.run,
    "onvif": onvif.run,
    "service": service.run,
}
TRIALS: Final[dict[str, Callable[[list[str]], int]]] = {
    "soak": soak.main,
    "fanout": fanout.main,
    "overload": overload.main,
    "paired": paired.main,
    "sizing": sizing.main,
    "detect": detect.main,
}


def main() -> int:
    if sys.argv[1:2] and (trial := TRIALS.get(sys.argv[1])):
        return trial(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Benchmarks of nvision-hub.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, as a quick check")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of tables")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(BENCHMARKS)):
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    reports = []
    for name in arguments.names or BENCHMARKS:
        report = BENCHMARKS[name](quick=arguments.quick)
        reports.append(report)
        if not arguments.json:
            print(report.as_text(), flush=True)
    if len(reports) > 1 and not arguments.json:
        print(summary(reports))
    if arguments.json:
        print(json.dumps([report.as_json() for report in reports], indent=2))
    return 0 if all(goal.met for report in reports for goal in report.goals) else 1


if __name__ == "__main__":
    sys.exit(main())
