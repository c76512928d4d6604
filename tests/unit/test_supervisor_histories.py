"""Invariants of the supervisor's policy for any history of starts, reports and exits."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.errors import EXIT_CONFIG
from nvision_hub.runtime.process import ProcessSpec
from nvision_hub.runtime.status import Deadline
from nvision_hub.supervisor.policy import is_over
from nvision_hub.supervisor.process_state import Phase, ProcessState
from tests.support.supervisor_replay import LIMITS, NO_MEMORY, SIGKILL, TICK_S, Replay, nothing

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), st.floats(0.0, 30.0)),
        st.tuples(st.just("exit"), st.integers(0, 3), st.sampled_from([0, 1, EXIT_CONFIG, SIGKILL, -15])),
        st.tuples(st.just("report"), st.integers(0, 3), st.booleans(), st.floats(-100.0, 0.0)),
        st.tuples(st.just("refuse"), st.integers(0, 3)),
        st.tuples(st.just("excuse")),
        st.tuples(st.just("leave"), st.integers(0, 3)),
        st.tuples(st.just("stop"), st.booleans()),
    ),
    max_size=60,
)


@given(stages=st.lists(st.integers(0, 2), min_size=4, max_size=4), steps=STEPS, stubborn=st.sets(st.integers(0, 3)))
def test_invariants_hold_for_any_history(stages: list[int], steps: list[Any], stubborn: set[int]) -> None:
    """Every stop ends. `carry_out` checks that no action affects an exited child or starts a child twice."""
    fleet = Replay(*stages)
    for step in steps:
        apply(fleet, step)
    fleet.stop()
    turns = 0
    while not is_over(fleet.members, fleet.now, fleet.stopping, LIMITS):
        fleet.turn()
        turns += 1
        for number, member in enumerate(fleet.members):
            if member.phase is Phase.KILLED and number not in stubborn:
                fleet.exit(member.spec.name, SIGKILL)
    assert turns * TICK_S <= LIMITS.stop_s + LIMITS.reap_s + TICK_S
    # After a stop that reaches its time limit, only children that have been killed may still be alive.
    assert all(not member.alive or member.phase is Phase.KILLED for member in fleet.members)


def apply(fleet: Replay, step: Any) -> None:
    """Apply a step of a history if the current state allows the step."""
    match step:
        case "turn", seconds:
            fleet.turn(seconds)
        case "exit", number, code if fleet.members[number].alive:
            fleet.exit(f"m{number}", code)
        case "report", number, ready, moved if fleet.members[number].alive:
            fleet.report(f"m{number}", ready=ready, capture=Deadline(at=fleet.now + moved, timeout_s=10.0))
        case "refuse", number if fleet.members[number].phase is Phase.WAITING and fleet.stopping is None:
            fleet.members[number].on_start_failed(NO_MEMORY, fleet.now)
        case ("excuse",):
            for member in fleet.members:
                member.reset_watchdog(fleet.now)
        case "leave", number:
            fleet.members[number].request_end(None)
        case "stop", hurry if not hurry or fleet.stopping is not None:
            fleet.stop(hurry=hurry)


def test_the_version_of_process_info_is_never_reused() -> None:
    def spec() -> ProcessSpec:
        return ProcessSpec(name="m0", stage=0, entry=nothing, settings=None)

    member = ProcessState(spec=spec())
    keys = [member.info_version]
    for _ in range(1000):
        member.replace_spec(spec())  # some specs reuse the memory address of a collected spec
        keys.append(member.info_version)
    keys += [ProcessState(spec=member.spec).info_version for _ in range(10)]
    assert len(set(keys)) == len(keys)
