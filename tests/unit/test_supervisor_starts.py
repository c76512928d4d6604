"""Starts, restarts and crash loops in the supervisor's policy, on a fake clock."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from nvision_hub.errors import EXIT_CONFIG, EXIT_FAILED
from nvision_hub.supervisor.policy import Action
from nvision_hub.supervisor.process_state import Phase, SupervisorLimits
from tests.support.supervisor_replay import LIMITS, NO_MEMORY, TICK_S, Replay

if TYPE_CHECKING:
    from collections.abc import Callable


# Starting


def test_each_stage_starts_after_the_previous_one_is_ready() -> None:
    fleet = Replay(2, 0, 1, 2)
    fleet.turn()
    assert fleet.running == {"m1"}
    fleet.turn()
    assert fleet.running == {"m1"}
    fleet.report("m1", ready=False)
    fleet.turn()
    assert fleet.running == {"m1"}
    fleet.report("m1")
    fleet.turn()
    assert fleet.running == {"m1", "m2"}
    fleet.report("m2")
    fleet.turn()
    assert fleet.running == {"m0", "m1", "m2", "m3"}


def test_a_stage_that_never_gets_ready_delays_others_for_a_bounded_time() -> None:
    fleet = Replay(0, 1, 2)
    fleet.turn()
    fleet.reporting = set()
    waited = fleet.until(lambda: fleet.running == {"m0", "m1"}, 10)
    assert LIMITS.ready_timeout_s <= waited <= LIMITS.ready_timeout_s + 2 * TICK_S
    waited = fleet.until(lambda: fleet.running == {"m0", "m1", "m2"}, 10)
    assert LIMITS.ready_timeout_s <= waited <= LIMITS.ready_timeout_s + 2 * TICK_S


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda fleet: fleet.exit("m0"), id="crashes"),
        pytest.param(lambda fleet: fleet["m0"].on_start_failed(NO_MEMORY, fleet.now), id="cannot be forked"),
        pytest.param(lambda fleet: fleet.carry_out(Action("m0", Phase.KILLED, "stuck in a driver")), id="does not die"),
    ],
)
def test_a_stage_that_keeps_failing_delays_others_for_a_bounded_time(ending: Callable[[Replay], None]) -> None:
    fleet = Replay(0, 1)
    fleet.turn()
    began = fleet.now
    while "m1" not in fleet.running:
        if fleet["m0"].phase is Phase.RUNNING:
            ending(fleet)
        fleet.turn()
        assert fleet.now - began <= LIMITS.ready_timeout_s + 2 * TICK_S


def test_a_stage_that_can_never_be_forked_delays_others_for_a_bounded_time() -> None:
    fleet = Replay(0, 1)
    began = fleet.now
    while "m1" not in fleet.running:
        fleet["m0"].on_start_failed(NO_MEMORY, fleet.now)
        fleet.turn()
        assert fleet.now - began <= LIMITS.ready_timeout_s + 2 * TICK_S


def test_a_stage_with_nothing_left_to_start_delays_no_other() -> None:
    fleet = Replay(0, 1)
    fleet.turn()
    fleet.exit("m0", EXIT_CONFIG)
    fleet.turn()
    assert fleet.running == {"m1"}


def test_later_stages_run_and_restart_while_an_earlier_one_is_down() -> None:
    fleet = Replay(0, 1)
    fleet.reporting = {"m0", "m1"}
    fleet.until(lambda: fleet.running == {"m0", "m1"}, 10)
    for _ in range(40):
        fleet.turn()
    fleet.exit("m0")
    fleet.exit("m1")
    fleet["m0"].due += 1000
    fleet.until(lambda: fleet.running == {"m1"}, LIMITS.restart_first_s * 2 + 2 * TICK_S)


# Restarting


def test_a_crash_is_followed_by_a_start_after_a_growing_jittered_pause() -> None:
    pauses: list[list[float]] = []
    for seed in range(50):
        fleet = Replay(0, limits=SupervisorLimits(crash_loop_exits=100))
        fleet["m0"].backoff.rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
        pauses.append(fleet.crash_after("m0", 1.0, 8))
    for number in range(8):
        column = [row[number] for row in pauses]
        ceiling = min(LIMITS.restart_max_s, LIMITS.restart_first_s * 2 ** (number + 1))
        assert all(LIMITS.restart_first_s <= pause <= ceiling for pause in column)
        assert max(column) - min(column) > 0.6 * (ceiling - LIMITS.restart_first_s), (
            "the whole fleet would restart at the same time"
        )


def test_a_child_starts_when_it_is_due() -> None:
    fleet = Replay(0)
    fleet["m0"].due = fleet.now + 2 * TICK_S
    assert fleet.turn() == []
    assert fleet.turn() == [Action("m0", Phase.RUNNING)]


def test_no_pause_exceeds_the_configured_limit() -> None:
    fleet = Replay(0, limits=SupervisorLimits(restart_max_s=3.0, crash_loop_exits=100))
    assert max(fleet.crash_after("m0", 1.0, 30)) <= 3.0


def test_only_a_long_run_resets_the_backoff() -> None:
    fleet = Replay(0)
    fleet.crash_after("m0", 1.0, 3)
    assert fleet["m0"].backoff.tries == 3
    fleet.crash_after("m0", 30.0, 1)
    assert fleet["m0"].backoff.tries == 4
    (pause,) = fleet.crash_after("m0", 90.0, 1)
    assert pause <= 2 * LIMITS.restart_first_s


def test_five_exits_in_exactly_the_window_are_a_crash_loop() -> None:
    fleet = Replay(0)
    for seconds in (0, 15, 30, 45, LIMITS.crash_loop_window_s):
        assert not fleet.loops("m0")
        fleet["m0"].on_exit(EXIT_FAILED, 2000 + seconds, wanted=True)
    assert fleet.loops("m0")


def test_five_crashes_in_a_minute_open_the_breaker_and_allow_one_restart_a_minute() -> None:
    fleet = Replay(0)
    pauses = fleet.crash_after("m0", 0.0, 4)
    assert not fleet.loops("m0")
    assert sum(pauses) < LIMITS.crash_loop_window_s
    for _ in range(5):
        (pause,) = fleet.crash_after("m0", 0.0, 1)
        assert fleet.loops("m0")
        assert 0.85 * LIMITS.crash_loop_pause_s <= pause <= 1.15 * LIMITS.crash_loop_pause_s
    assert fleet["m0"].restarts == 9
    assert fleet["m0"].restart_reasons == {"exit_1": 9}


def test_a_slow_crash_loop_opens_the_breaker() -> None:
    fleet = Replay(0)
    fleet.crash_after("m0", 3.0, 5)
    assert fleet.loops("m0")


def test_only_a_long_run_closes_the_breaker() -> None:
    fleet = Replay(0)
    fleet.crash_after("m0", 1.0, 6)
    fleet.crash_after("m0", 45.0, 1)
    assert fleet.loops("m0")
    (pause,) = fleet.crash_after("m0", 90.0, 1)
    assert not fleet.loops("m0")
    assert pause <= 2 * LIMITS.restart_first_s


def test_a_worker_of_an_unreachable_camera_is_in_no_crash_loop() -> None:
    fleet = Replay(0)
    fleet.crash_after("m0", 1.0, 5)
    fleet.until(lambda: fleet["m0"].phase is Phase.RUNNING, 100)
    for _ in range(300):
        fleet.report("m0", ready=False)
        fleet.turn()
    assert not fleet.loops("m0")


def test_crashes_far_apart_open_no_breaker() -> None:
    fleet = Replay(0)
    fleet.crash_after("m0", 25.0, 10)
    assert not fleet.loops("m0")


def test_a_worker_that_exits_for_configuration_is_not_restarted() -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.exit("m0", EXIT_CONFIG)
    for _ in range(1000):
        assert fleet.turn() == []
    assert fleet["m0"].phase is Phase.ENDED


def test_a_watchdog_kill_is_a_crash_with_any_exit_code() -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.carry_out(Action("m0", Phase.KILLED, "no report"))
    fleet.exit("m0", EXIT_CONFIG)
    fleet.until(lambda: fleet.running == {"m0"}, 2)
    assert fleet["m0"].restarts == 1


def test_a_failed_fork_does_not_count_as_a_crash() -> None:
    fleet = Replay(0)
    for _ in range(20):
        fleet["m0"].on_start_failed(NO_MEMORY, fleet.now)
        assert 0 < fleet["m0"].due - fleet.now <= 1.5 * LIMITS.start_failure_delay_s
        fleet.now = fleet["m0"].due
    fleet.turn()
    assert fleet.running == {"m0"}
    assert (fleet["m0"].restarts, fleet["m0"].crash_loop) == (0, False)


def test_processes_that_cannot_be_forked_retry_at_different_times() -> None:
    fleet = Replay(*[0] * 50)
    for member in fleet.members:
        member.on_start_failed(NO_MEMORY, fleet.now)
    delays = [member.due - fleet.now for member in fleet.members]
    assert min(delays) < 0.6 * LIMITS.start_failure_delay_s
    assert max(delays) > 1.4 * LIMITS.start_failure_delay_s
