"""Generator of docs/reliability.md from the measurements of the fault tests.

A fault test calls `measured` after its last assertion. If the environment variable `NVISION_HUB_RELIABILITY` names a
file, `measured` appends the row to this file as JSON. `python -m tests.support.reliability FILE` generates the page
from this file. `make reliability` performs both steps.
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

`make reliability` runs the fault tests (`pytest -m fault`) and writes their measurements to this page. The page
contains a row only if its test has passed. The tests use real processes and real RTSP, Redis and WebSocket peers. The
figures are those of the last passing run, on a {cores}-core machine with {system}. They vary from run to run.

| # | fault | injected by | target | measured |
|---|---|---|---|---|
"""
# Attacks have a separate table, which starts at this case.
FIRST_ATTACK: Final = 56
SECURITY: Final = """
## Security: what was sent, and what came back

Each test sends the attack to a running hub, or to one of its commands. [security.md](security.md) lists the attackers
against which the hub defends itself.

| # | attack | sent | requirement | response |
|---|---|---|---|---|
"""
TAIL: Final = """
Case 18 takes down a link between network namespaces and needs root. Case 19 drops packets in a relay that belongs to
the test, because not every kernel has netem.

To test a hub for several minutes, use `python -m tests.bench soak --cameras 8 --minutes 10 --fault-every 5`. This
benchmark injects random faults and accounts for every frame. [accounting.md](accounting.md) shows the figures of one
run.
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row. Rows are sorted by `case`. A case may have several rows."""

    case: int
    fault: str
    injected: str
    target: str
    measured: str


def measured(case: int, fault: str, *, injected: str, target: str, measured: str) -> None:
    """Append a row for the page to the file that the environment variable names."""
    if file_name := os.environ.get(VARIABLE):
        line = Line(case=case, fault=fault, injected=injected, target=target, measured=measured)
        with Path(file_name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")


def page(lines: list[Line]) -> str:
    """Return the content of the page. If several rows have the same case, fault and injection, use the last row."""
    newest = {(line.case, line.fault, line.injected): line for line in lines}
    rows = [line for _, line in sorted(newest.items())]
    head = HEAD.format(cores=os.cpu_count(), system=f"{platform.system()} {platform.release()}")
    faults, attacks = (
        [line for line in rows if (line.case >= FIRST_ATTACK) == is_attack] for is_attack in (False, True)
    )
    return head + _table(faults) + TAIL + SECURITY + _table(attacks)


def _table(lines: list[Line]) -> str:
    fields = ((line.case, line.fault, line.injected, line.target, line.measured) for line in lines)
    return "".join(f"| {' | '.join(map(str, each))} |\n" for each in fields)


def main() -> None:
    lines = [Line(**json.loads(text)) for text in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    PAGE.write_text(page(lines), encoding="utf-8")
    print(f"{PAGE}: {len(lines)} lines")


if __name__ == "__main__":
    main()
