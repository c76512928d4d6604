"""Watchdog of the supervisor's policy, on a fake clock."""

from __future__ import annotations

from nvision_hub.runtime.status import Deadline
from nvision_hub.supervisor.policy import Action
from nvision_hub.supervisor.process_state import Phase
from tests.support.supervisor_replay import LIMITS, SIGKILL, TICK_S, Replay


def test_a_silent_child_is_killed() -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.report("m0")
    waited = fleet.until(lambda: fleet["m0"].phase is Phase.KILLED, 30)
    assert LIMITS.heartbeat_timeout_s < waited <= LIMITS.heartbeat_timeout_s + 2 * TICK_S
    assert fleet.done[-1][1] == Action("m0", Phase.KILLED, "no report for 15 s")


def test_a_child_that_never_reported_is_killed() -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.until(lambda: fleet["m0"].phase is Phase.KILLED, LIMITS.heartbeat_timeout_s + 2 * TICK_S)


def test_a_missed_deadline_is_killed_despite_reports() -> None:
    fleet = Replay(0)
    fleet.turn()
    stuck_at = fleet.now
    while fleet["m0"].phase is Phase.RUNNING:
        assert fleet.now - stuck_at <= 20
        fleet.report("m0", capture=Deadline(at=stuck_at, timeout_s=10.0), loop=Deadline(at=fleet.now, timeout_s=5.0))
        fleet.turn()
    assert 10.0 < fleet.now - stuck_at <= 10.0 + 2 * TICK_S
    assert fleet.done[-1][1] == Action("m0", Phase.KILLED, "no capture for 10 s")


def test_status_of_a_previous_process_never_counts_for_the_next() -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.report("m0", capture=Deadline(at=fleet.now - 100, timeout_s=10.0))
    fleet.exit("m0", SIGKILL)
    assert fleet["m0"].status is not None  # kept for display
    assert not fleet["m0"].ready
    reused = fleet["m0"].status.pid
    fleet.pids = iter([reused])
    fleet.until(lambda: fleet["m0"].phase is Phase.RUNNING, 5)
    assert fleet["m0"].pid == reused
    assert not fleet["m0"].ready
    while fleet.now - fleet["m0"].since < 12:  # longer than the old deadline, shorter than the heartbeat timeout
        assert fleet.turn() == []


def test_a_suspended_supervisor_kills_no_child() -> None:
    fleet = Replay(0, 0)
    fleet.turn()
    for name in ("m0", "m1"):
        fleet.report(name, capture=Deadline(at=fleet.now, timeout_s=10.0))
    fleet.now += 3600
    for member in fleet.members:
        member.reset_watchdog(fleet.now)
    assert fleet.turn() == []
    fleet.report("m0", capture=Deadline(at=fleet.now, timeout_s=10.0))
    # The supervisor still kills a child that stays silent.
    fleet.reporting = {"m0"}
    fleet.until(lambda: fleet["m1"].phase is Phase.KILLED, LIMITS.heartbeat_timeout_s + 2 * TICK_S)
    assert fleet["m0"].phase is Phase.RUNNING


def test_no_watchdog_applies_during_a_stop() -> None:
    fleet = Replay(0, 1)
    fleet.reporting = {"m0", "m1"}
    fleet.until(lambda: fleet.running == {"m0", "m1"}, 10)
    fleet.reporting = set()
    fleet.now += 20
    fleet.stop()
    assert fleet.turn() == [Action("m1", Phase.DRAINING)]
