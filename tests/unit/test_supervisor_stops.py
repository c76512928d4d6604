"""Stops of the supervisor and removals of children in its policy, on a fake clock."""

from __future__ import annotations

from nvision_hub.supervisor.policy import Action, decide, is_over
from nvision_hub.supervisor.process_state import Phase
from tests.support.supervisor_replay import LIMITS, SIGKILL, TICK_S, Replay

# Stopping


def started(*stages: int) -> Replay:
    fleet = Replay(*stages)
    fleet.reporting = {member.spec.name for member in fleet.members}
    fleet.until(lambda: fleet.running == fleet.reporting, 10)
    return fleet


def test_a_stop_follows_the_stages_in_reverse() -> None:
    fleet = started(0, 1, 2, 2)
    fleet.stop()
    assert fleet.turn() == [Action("m2", Phase.DRAINING), Action("m3", Phase.DRAINING)]
    assert [member.ready for member in fleet.members] == [True, True, False, False]
    assert fleet.turn() == []
    fleet.exit("m3", 0)
    assert fleet.turn() == []
    fleet.exit("m2", 0)
    assert fleet.turn() == [Action("m1", Phase.DRAINING)]
    fleet.exit("m1", 0)
    assert fleet.turn() == [Action("m0", Phase.DRAINING)]
    assert not is_over(fleet.members, fleet.now, fleet.stopping, LIMITS)
    fleet.exit("m0", 0)
    assert is_over(fleet.members, fleet.now, fleet.stopping, LIMITS)
    assert {member.phase for member in fleet.members} == {Phase.ENDED}
    assert sum(member.restarts for member in fleet.members) == 0


def test_a_child_that_does_not_end_is_terminated_then_killed() -> None:
    fleet = started(0)
    fleet.stop()
    began = fleet.now
    fleet.until(lambda: fleet["m0"].phase is Phase.KILLED, 10)
    drained, terminated, killed = ((at - began, action) for at, action in fleet.done[-3:])
    assert drained == (TICK_S, Action("m0", Phase.DRAINING))
    assert terminated[1] == Action("m0", Phase.TERMINATING)
    assert LIMITS.drain_s < terminated[0] - drained[0] <= LIMITS.drain_s + 2 * TICK_S
    assert killed[1] == Action("m0", Phase.KILLED, "it ignored the request to stop")
    assert LIMITS.terminate_s < killed[0] - terminated[0] <= LIMITS.terminate_s + 2 * TICK_S


def test_a_second_signal_shortens_every_deadline() -> None:
    fleet = started(0, 1, 2)
    fleet.stop()
    fleet.turn()
    fleet.stop(hurry=True)

    def all_exited() -> bool:
        for member in fleet.members:
            if member.phase is Phase.KILLED:
                fleet.exit(member.spec.name, SIGKILL)
        return is_over(fleet.members, fleet.now, fleet.stopping, LIMITS)

    took = fleet.until(all_exited, LIMITS.stop_s)
    assert took <= 3 * (2 * LIMITS.hurry_s + 5 * TICK_S)


def test_a_crash_during_a_stop_is_not_restarted() -> None:
    fleet = started(0, 1)
    fleet.stop()
    fleet.turn()
    fleet.exit("m0", SIGKILL)
    assert fleet["m0"].phase is Phase.ENDED
    fleet.exit("m1", 0)
    assert is_over(fleet.members, fleet.now, fleet.stopping, LIMITS)


def test_a_child_waiting_for_its_restart_is_not_started_during_a_stop() -> None:
    fleet = started(0)
    fleet.exit("m0")
    fleet.stop()
    assert is_over(fleet.members, fleet.now, fleet.stopping, LIMITS)
    for _ in range(20):
        assert fleet.turn() == []


def test_the_limits_of_a_stop_apply_only_after_they_have_passed() -> None:
    fleet = started(0)
    fleet.stop()
    since = fleet.now
    fleet["m0"].enter(Phase.TERMINATING, since + LIMITS.stop_s)
    assert decide(fleet.members, since + LIMITS.stop_s, fleet.stopping, LIMITS) == []
    assert decide(fleet.members, since + LIMITS.stop_s + 0.01, fleet.stopping, LIMITS) != []
    end = since + LIMITS.stop_s + LIMITS.reap_s
    assert not is_over(fleet.members, end, fleet.stopping, LIMITS)
    assert is_over(fleet.members, end + 0.01, fleet.stopping, LIMITS)


def test_a_stop_completes_even_if_a_child_cannot_be_killed() -> None:
    fleet = started(0, 1, 2)
    fleet.stop()
    took = fleet.until(lambda: is_over(fleet.members, fleet.now, fleet.stopping, LIMITS), 20)
    assert took <= LIMITS.stop_s + LIMITS.reap_s + 2 * TICK_S < 10
    assert {member.phase for member in fleet.members} == {Phase.KILLED}
    reasons = [member.kill_reason for member in fleet.members]
    assert reasons == ["the stop took too long"] * 2 + ["it ignored the request to stop"]


def test_no_stop_is_over_before_one_began() -> None:
    fleet = Replay(0)
    assert not is_over(fleet.members, fleet.now, None, LIMITS)


# Removal while the others keep running


def test_a_removed_child_is_ended_in_steps_and_not_restarted() -> None:
    fleet = started(0, 0)
    fleet["m0"].request_end(None)
    began = fleet.now
    fleet.until(lambda: fleet["m0"].phase is Phase.KILLED, 10)
    assert [action for _, action in fleet.done[-3:]] == [
        Action("m0", Phase.DRAINING),
        Action("m0", Phase.TERMINATING),
        Action("m0", Phase.KILLED, "it ignored the request to stop"),
    ]
    assert fleet.now - began <= LIMITS.drain_s + LIMITS.terminate_s + 5 * TICK_S
    fleet.exit("m0", SIGKILL)
    assert fleet["m0"].phase is Phase.ENDED
    assert fleet.turn() == []
    assert (fleet["m0"].restarts, fleet.running) == (0, {"m1"})


def test_one_tick_removes_and_starts_several_children() -> None:
    fleet = started(0, 0, 0, 0)
    fleet.exit("m0")
    fleet["m0"].due = fleet.now
    fleet["m1"].request_end(None)
    fleet["m3"].request_end(None)
    assert fleet.turn() == [
        Action("m0", Phase.RUNNING),
        Action("m1", Phase.DRAINING),
        Action("m3", Phase.DRAINING),
    ]


def test_a_removed_child_that_waits_for_its_start_leaves_immediately() -> None:
    fleet = Replay(0, 1)
    fleet.turn()
    fleet.exit("m0")
    fleet["m0"].request_end(None)
    fleet.turn()
    assert fleet.running == {"m1"}
    assert not fleet["m0"].alive
