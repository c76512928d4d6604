"""A child that an attacker controls writes to its log pipe. The supervisor and the other children continue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from nvision_hub.logs.pipe import CPU_SHARE
from tests.support.hostile_children import FORGED, invalid_records
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.fleet import Fleet

pytestmark = pytest.mark.fault

FLOODED_S = 5.0


def last_number(fleet: Fleet, name: str) -> int:
    """Return the last number that a `logs_numbers` child logged; 0 if there is none."""
    return max((int(line.split()[1]) for line in fleet.lines(name) if line.startswith("number ")), default=0)


def test_forged_log_records_run_no_code_and_are_discarded(start_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    fleet = start_fleet({"other": "logs_numbers", "forger": ("forges_log_records", str(canary))})
    fleet.ready()
    fleet.wait_until(lambda: any(line.startswith("wrote ") for line in fleet.lines("forger")))
    seen = last_number(fleet, "other")
    fleet.wait_until(lambda: last_number(fleet, "other") > seen + 100)
    fleet.stop_with()
    assert not canary.exists(), "a child ran code in the supervisor"
    sent = next(int(line.split()[1]) for line in fleet.lines("forger") if line.startswith("wrote "))
    discarded = re.findall(r" hub  forger: (\d+) invalid log records were discarded", fleet.log())
    assert sum(map(int, discarded)) == sent
    assert len(discarded) < 10, "a warning counts the records of a second"
    assert fleet.lines("forger")[0] == "%s", "the message is no format string"
    (forged,) = (line for line in fleet.log().splitlines() if FORGED in line)
    assert forged.startswith("    "), "the text of a valid record cannot begin another line of the log"
    numbers = [int(line.split()[1]) for line in fleet.lines("other")]
    assert numbers == list(range(1, len(numbers) + 1)), "every record of the other child arrived"
    measured(
        77,
        "forged log records of a camera worker",
        injected=f"{', '.join(invalid_records(''))}: {sent} records",
        target="no code runs in the supervisor; the records are counted; all other records arrive",
        measured=f"no code ran; {sent} records discarded with {len(discarded)} warnings; "
        f"{len(numbers)} records of another child arrived, none was lost",
    )


@pytest.mark.long
def test_a_flood_of_log_records_does_not_occupy_the_supervisor(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"other": "logs_numbers", "flood": "floods_its_log"}, heartbeat_timeout_s=600.0)
    fleet.ready_pid("other")
    fleet.wait_until(lambda: bool(fleet.lines("flood")))
    seconds = fleet.shown[-1]["own"]["at"] + FLOODED_S  # the burst is over by then
    fleet.wait_until(lambda: fleet.shown[-1]["own"]["at"] > seconds)
    first, number = fleet.shown[-1]["own"], last_number(fleet, "other")
    fleet.wait_until(lambda: fleet.shown[-1]["own"]["at"] > first["at"] + FLOODED_S)
    last = fleet.shown[-1]["own"]
    share = (last["cpu_s"] - first["cpu_s"]) / (last["at"] - first["at"])
    assert share < CPU_SHARE + 0.3, "the supervisor, which also reads and shows its other child"
    fleet.wait_until(lambda: last_number(fleet, "other") > number + 100)
    measured(
        77,
        "flood of log records",
        injected="a worker that writes the longest records without a pause",
        target="the supervisor is not kept busy; another child's records arrive",
        measured=f"the supervisor used {share:.0%} of a core; another child's records arrived",
    )
