"""The table of docs/reliability.md: what fault tests measured, written by the tests themselves.

A fault test calls `measured` when it has passed. Where the environment names a file (`NVISION_HUB_RELIABILITY`), the
line is kept there; `python -m tests.support.reliability FILE` makes the page of them. `make reliability` does both.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
VARIABLE: Final = "NVISION_HUB_RELIABILITY"
HEAD: Final = """\
# Reliability: faults, injected and measured

Made by `make reliability`, which runs the fault tests (`pytest -m fault`) and writes down what each has measured; a
line stands here only after its test has passed. Real processes, real RTSP, Redis and WebSocket peers; each figure is of
the last run in which its test passed, on a {cores}-core machine with {system}, and varies from run to run.

| # | fault | injected by | target | measured |
|---|---|---|---|---|
"""
TAIL: Final = """
Case 18 pulls the cable of a network namespace and
needs root; case 19 loses packets in a relay of the test's own, since not every kernel has netem.

Minutes instead of seconds: `python -m tests.bench soak --cameras 8 --minutes 10 --fault-every 5` lives among random
faults and balances the account of every picture; [accounting.md](accounting.md) has the figures of a run.
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row. `case` sorts; a case may have several rows."""

    case: int
    fault: str
    injected: str
    target: str
    measured: str


def measured(case: int, fault: str, *, injected: str, target: str, measured: str) -> None:
    """Keep one row for the page."""
    if where := os.environ.get(VARIABLE):
        line = Line(case=case, fault=fault, injected=injected, target=target, measured=measured)
        with Path(where).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")


def page(lines: list[Line]) -> str:
    """The page's text. Of rows that tell of the same, the last counts."""
    newest = {(line.case, line.fault, line.injected): line for line in lines}
    rows = [
        f"| {line.case} | {line.fault} | {line.injected} | {line.target} | {line.measured} |"
        for _, line in sorted(newest.items())
    ]
    head = HEAD.format(cores=os.cpu_count(), system=f"{platform.system()} {platform.release()}")
    return head + "\n".join(rows) + "\n" + TAIL


def main() -> None:
    lines = [Line(**json.loads(text)) for text in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    PAGE.write_text(page(lines), encoding="utf-8")
    print(f"{PAGE}: {len(lines)} lines")


if __name__ == "__main__":
    main()
