"""What the supervisor decides: histories of starts, reports and ends replayed against a clock of the test's own."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.child import ChildSpec
from nvision_hub.errors import EXIT_CONFIG, EXIT_FAILED
from nvision_hub.status import Promise, Status
from nvision_hub.supervisor import Limits, Member, Phase
from nvision_hub.supervisor.decisions import Action, Drain, Kill, Start, Stopping, Terminate, decide, over

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.link import Link

TICK_S = 0.25
LIMITS = Limits()
SIGKILL = -9
NO_MEMORY = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def nothing(_settings: Any, _link: Link) -> None:
    """The entry of children that are never forked."""


class Replay:
    """A fleet without processes: carries out what `decide` says, and lets the test say what the children do."""

    def __init__(self, *stages: int, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.members = [
            Member(spec=ChildSpec(name=f"m{number}", stage=stage, entry=nothing, settings=None), limits=limits)
            for number, stage in enumerate(stages)
        ]
        for member in self.members:
            member.backoff.rng = random.Random(member.spec.name)  # noqa: S311 - repeatable, no secret
        self.now = 1000.0
        self.pids = iter(range(100, 1_000_000))
        self.stopping: Stopping | None = None
        self.done: list[tuple[float, Action]] = []  # every action, and when
        self.reporting: set[str] = set()

    def __getitem__(self, name: str) -> Member:
        return next(member for member in self.members if member.spec.name == name)

    def turn(self, by_s: float = TICK_S) -> list[Action]:
        """One turn of the loop, `by_s` later; those in `reporting` report first."""
        self.now += by_s
        for name in self.reporting:
            if self[name].alive:
                self.report(name)
        actions = decide(self.members, self.now, self.stopping, self.limits)
        for action in actions:
            self.carry_out(action)
        return actions

    def carry_out(self, action: Action) -> None:
        self.done.append((self.now, action))
        member = self[action.name]
        match action:
            case Start():
                assert not member.alive, "started twice"
                assert self.stopping is None, "started during a stop"
                member.started(next(self.pids), self.now)
            case Drain():
                assert member.phase is Phase.RUNNING
                member.enter(Phase.DRAINING, self.now)
            case Terminate():
                assert member.phase is Phase.DRAINING
                member.enter(Phase.TERMINATING, self.now)
            case Kill(reason=reason):
                assert member.alive, "a dead child was to be killed"
                assert member.phase is not Phase.KILLED, "killed twice"
                member.killed_for = reason
                member.enter(Phase.KILLED, self.now)

    def report(self, name: str, *, ready: bool = True, **promises: Promise) -> None:
        member = self[name]
        assert member.pid is not None
        member.reported(Status(pid=member.pid, at=self.now, state="running", ready=ready, promises=promises), self.now)

    def exit(self, name: str, code: int = EXIT_FAILED) -> None:
        self[name].exited(code, self.now, wanted=self.stopping is None)

    def stop(self, *, hurry: bool = False) -> None:
        self.stopping = Stopping(self.now if self.stopping is None else self.stopping.since, hurry)

    def until(self, condition: Callable[[], bool], within_s: float) -> float:
        """Turn until the condition holds; how long that took."""
        began = self.now
        while not condition():
            assert self.now - began <= within_s, f"not within {within_s} s"
            self.turn()
        return self.now - began

    def crash_after(self, name: str, seconds: float, times: int) -> list[float]:
        """Let it report and crash, `times` over, each `seconds` after its start; the pauses before each restart."""
        pauses = []
        for _ in range(times):
            self.until(lambda: self[name].phase is Phase.RUNNING, 100)
            began = self.now
            while self.now - began < seconds:
                self.report(name)
                self.turn()
            self.exit(name)
            pauses.append(self[name].due - self.now)
        return pauses

    def loops(self, name: str) -> bool:
        """Whether a member's breaker is open."""
        return self[name].crash_loop

    @property
    def running(self) -> set[str]:
        return {member.spec.name for member in self.members if member.phase is Phase.RUNNING}


# Starting


def test_stages_start_in_order_each_when_the_one_before_is_ready() -> None:
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


def test_a_stage_that_never_gets_ready_holds_nobody_back_for_long() -> None:
    fleet = Replay(0, 1, 2)
    fleet.turn()
    fleet.reporting = set()
    waited = fleet.until(lambda: fleet.running == {"m0", "m1"}, 10)
    assert LIMITS.ready_within_s <= waited <= LIMITS.ready_within_s + 2 * TICK_S
    waited = fleet.until(lambda: fleet.running == {"m0", "m1", "m2"}, 10)
    assert LIMITS.ready_within_s <= waited <= LIMITS.ready_within_s + 2 * TICK_S


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda fleet: fleet.exit("m0"), id="crashes"),
        pytest.param(lambda fleet: fleet["m0"].put_off(NO_MEMORY, fleet.now), id="cannot be forked"),
        pytest.param(lambda fleet: fleet.carry_out(Kill("m0", "stuck in a driver")), id="does not die"),
    ],
)
def test_nor_does_one_that(ending: Callable[[Replay], None]) -> None:
    fleet = Replay(0, 1)
    fleet.turn()
    began = fleet.now
    while "m1" not in fleet.running:
        if fleet["m0"].phase is Phase.RUNNING:
            ending(fleet)
        fleet.turn()
        assert fleet.now - began <= LIMITS.ready_within_s + 2 * TICK_S


def test_a_stage_with_nothing_left_to_start_holds_nobody_back() -> None:
    fleet = Replay(0, 1)
    fleet.turn()
    fleet.exit("m0", EXIT_CONFIG)
    fleet.turn()
    assert fleet.running == {"m1"}


def test_later_stages_live_on_and_restart_while_an_earlier_one_is_away() -> None:
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
        fleet = Replay(0, limits=Limits(crash_loop_exits=100))
        fleet["m0"].backoff.rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
        pauses.append(fleet.crash_after("m0", 1.0, 8))
    for number in range(8):
        column = [row[number] for row in pauses]
        ceiling = min(LIMITS.restart_cap_s, LIMITS.restart_first_s * 2 ** (number + 1))
        assert all(LIMITS.restart_first_s <= pause <= ceiling for pause in column)
        assert max(column) - min(column) > 0.6 * (ceiling - LIMITS.restart_first_s), "a fleet would come back in step"


def test_a_short_run_resets_no_pause_and_a_long_one_does() -> None:
    fleet = Replay(0)
    fleet.crash_after("m0", 1.0, 3)
    assert fleet["m0"].backoff.tries == 3
    fleet.crash_after("m0", 30.0, 1)
    assert fleet["m0"].backoff.tries == 4
    (pause,) = fleet.crash_after("m0", 90.0, 1)
    assert pause <= 2 * LIMITS.restart_first_s


def test_five_crashes_in_a_minute_open_the_breaker_then_one_try_a_minute() -> None:
    fleet = Replay(0)
    pauses = fleet.crash_after("m0", 0.0, 4)
    assert not fleet.loops("m0")
    assert sum(pauses) < LIMITS.crash_loop_window_s
    for _ in range(5):
        (pause,) = fleet.crash_after("m0", 0.0, 1)
        assert fleet.loops("m0")
        assert 0.85 * LIMITS.crash_loop_pause_s <= pause <= 1.15 * LIMITS.crash_loop_pause_s
    assert fleet["m0"].restarts == 9


def test_a_slow_crash_loop_opens_it_too() -> None:
    fleet = Replay(0)
    fleet.crash_after("m0", 3.0, 5)
    assert fleet.loops("m0")


def test_a_run_that_lasts_closes_the_breaker_and_a_short_one_does_not() -> None:
    fleet = Replay(0)
    fleet.crash_after("m0", 1.0, 6)
    fleet.crash_after("m0", 45.0, 1)
    assert fleet.loops("m0")
    (pause,) = fleet.crash_after("m0", 90.0, 1)
    assert not fleet.loops("m0")
    assert pause <= 2 * LIMITS.restart_first_s


def test_a_worker_whose_camera_is_away_for_hours_is_in_no_crash_loop() -> None:
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


def test_a_worker_that_says_its_settings_are_wrong_is_not_started_again() -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.exit("m0", EXIT_CONFIG)
    for _ in range(1000):
        assert fleet.turn() == []
    assert fleet["m0"].phase is Phase.ENDED


def test_a_kill_of_ours_is_a_crash_whatever_the_exit_code() -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.carry_out(Kill("m0", "no report"))
    fleet.exit("m0", EXIT_CONFIG)
    fleet.until(lambda: fleet.running == {"m0"}, 2)
    assert fleet["m0"].restarts == 1


def test_a_start_that_the_machine_refuses_is_no_crash() -> None:
    fleet = Replay(0)
    for _ in range(20):
        fleet["m0"].put_off(NO_MEMORY, fleet.now)
        assert 0 < fleet["m0"].due - fleet.now <= 1.5 * LIMITS.no_room_pause_s
        fleet.now = fleet["m0"].due
    fleet.turn()
    assert fleet.running == {"m0"}
    assert (fleet["m0"].restarts, fleet["m0"].crash_loop) == (0, False)


# Judging


def test_silence_is_killed() -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.report("m0")
    waited = fleet.until(lambda: fleet["m0"].phase is Phase.KILLED, 30)
    assert LIMITS.silent_after_s < waited <= LIMITS.silent_after_s + 2 * TICK_S
    assert fleet.done[-1][1] == Kill("m0", "no report for 15 s")


def test_so_is_a_child_that_never_reported() -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.until(lambda: fleet["m0"].phase is Phase.KILLED, LIMITS.silent_after_s + 2 * TICK_S)


def test_a_broken_promise_is_killed_though_reports_go_on() -> None:
    fleet = Replay(0)
    fleet.turn()
    stuck_at = fleet.now
    while fleet["m0"].phase is Phase.RUNNING:
        fleet.report("m0", capture=Promise(at=stuck_at, within_s=10.0), loop=Promise(at=fleet.now, within_s=5.0))
        fleet.turn()
    assert 10.0 < fleet.now - stuck_at <= 10.0 + 2 * TICK_S
    assert fleet.done[-1][1] == Kill("m0", "no capture for 10 s")


def test_an_old_process_is_never_held_against_its_successor() -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.report("m0", capture=Promise(at=fleet.now - 100, within_s=10.0))
    fleet.exit("m0", SIGKILL)
    assert fleet["m0"].status is not None  # kept, for whoever shows it
    assert not fleet["m0"].ready
    reused = fleet["m0"].status.pid
    fleet.pids = iter([reused])
    fleet.until(lambda: fleet["m0"].phase is Phase.RUNNING, 5)
    assert fleet["m0"].pid == reused
    assert not fleet["m0"].ready
    for _ in range(20):
        assert fleet.turn() == []


def test_a_supervisor_that_stood_still_kills_nobody_for_it() -> None:
    fleet = Replay(0, 0)
    fleet.turn()
    for name in ("m0", "m1"):
        fleet.report(name, capture=Promise(at=fleet.now, within_s=10.0))
    fleet.now += 3600
    for member in fleet.members:
        member.excused(fleet.now)
    assert fleet.turn() == []
    fleet.report("m0", capture=Promise(at=fleet.now, within_s=10.0))
    # Grace, not amnesty: who stays silent is still killed.
    fleet.reporting = {"m0"}
    fleet.until(lambda: fleet["m1"].phase is Phase.KILLED, LIMITS.silent_after_s + 2 * TICK_S)
    assert fleet["m0"].phase is Phase.RUNNING


def test_nobody_is_judged_while_stopping() -> None:
    fleet = Replay(0, 1)
    fleet.reporting = {"m0", "m1"}
    fleet.until(lambda: fleet.running == {"m0", "m1"}, 10)
    fleet.reporting = set()
    fleet.now += 20
    fleet.stop()
    assert fleet.turn() == [Drain("m1")]


# Stopping


def started(*stages: int) -> Replay:
    fleet = Replay(*stages)
    fleet.reporting = {member.spec.name for member in fleet.members}
    fleet.until(lambda: fleet.running == fleet.reporting, 10)
    return fleet


def test_a_stop_goes_down_the_stages() -> None:
    fleet = started(0, 1, 2, 2)
    fleet.stop()
    assert fleet.turn() == [Drain("m2"), Drain("m3")]
    assert fleet.turn() == []
    fleet.exit("m3", 0)
    assert fleet.turn() == []
    fleet.exit("m2", 0)
    assert fleet.turn() == [Drain("m1")]
    fleet.exit("m1", 0)
    assert fleet.turn() == [Drain("m0")]
    assert not over(fleet.members, fleet.now, fleet.stopping, LIMITS)
    fleet.exit("m0", 0)
    assert over(fleet.members, fleet.now, fleet.stopping, LIMITS)
    assert {member.phase for member in fleet.members} == {Phase.ENDED}
    assert sum(member.restarts for member in fleet.members) == 0


def test_who_does_not_end_is_asked_then_terminated_then_killed() -> None:
    fleet = started(0)
    fleet.stop()
    began = fleet.now
    fleet.until(lambda: fleet["m0"].phase is Phase.KILLED, 10)
    drained, terminated, killed = ((at - began, action) for at, action in fleet.done[-3:])
    assert drained == (TICK_S, Drain("m0"))
    assert terminated[1] == Terminate("m0")
    assert LIMITS.drain_s < terminated[0] - drained[0] <= LIMITS.drain_s + 2 * TICK_S
    assert killed[1] == Kill("m0", "it did not stop when asked")
    assert LIMITS.terminate_s < killed[0] - terminated[0] <= LIMITS.terminate_s + 2 * TICK_S


def test_a_second_signal_shortens_every_deadline() -> None:
    fleet = started(0, 1, 2)
    fleet.stop()
    fleet.turn()
    fleet.stop(hurry=True)

    def nobody_left() -> bool:
        for member in fleet.members:
            if member.phase is Phase.KILLED:
                fleet.exit(member.spec.name, SIGKILL)
        return over(fleet.members, fleet.now, fleet.stopping, LIMITS)

    took = fleet.until(nobody_left, LIMITS.stop_s)
    assert took <= 3 * (2 * LIMITS.hurry_s + 5 * TICK_S)


def test_a_crash_during_a_stop_is_not_mended() -> None:
    fleet = started(0, 1)
    fleet.stop()
    fleet.turn()
    fleet.exit("m0", SIGKILL)
    assert fleet["m0"].phase is Phase.ENDED
    fleet.exit("m1", 0)
    assert over(fleet.members, fleet.now, fleet.stopping, LIMITS)


def test_who_is_waiting_for_a_restart_when_a_stop_begins_is_not_started() -> None:
    fleet = started(0)
    fleet.exit("m0")
    fleet.stop()
    assert over(fleet.members, fleet.now, fleet.stopping, LIMITS)
    for _ in range(20):
        assert fleet.turn() == []


def test_a_stop_ends_though_the_kernel_cannot_end_a_child() -> None:
    fleet = started(0, 1, 2)
    fleet.stop()
    took = fleet.until(lambda: over(fleet.members, fleet.now, fleet.stopping, LIMITS), 20)
    assert took <= LIMITS.stop_s + LIMITS.reap_s + 2 * TICK_S < 10
    assert {member.phase for member in fleet.members} == {Phase.KILLED}


# Leaving, while the others go on


def test_who_is_to_leave_is_ended_step_by_step_and_not_started_again() -> None:
    fleet = started(0, 0)
    fleet["m0"].leave(None)
    began = fleet.now
    fleet.until(lambda: fleet["m0"].phase is Phase.KILLED, 10)
    assert [action for _, action in fleet.done[-3:]] == [
        Drain("m0"),
        Terminate("m0"),
        Kill("m0", "it did not stop when asked"),
    ]
    assert fleet.now - began <= LIMITS.drain_s + LIMITS.terminate_s + 5 * TICK_S
    fleet.exit("m0", SIGKILL)
    assert fleet["m0"].phase is Phase.ENDED
    assert fleet.turn() == []
    assert (fleet["m0"].restarts, fleet.running) == (0, {"m1"})


def test_one_that_waits_to_be_started_leaves_at_once_and_holds_nobody_back() -> None:
    fleet = Replay(0, 1)
    fleet.turn()
    fleet.exit("m0")
    fleet["m0"].leave(None)
    fleet.turn()
    assert fleet.running == {"m1"}
    assert not fleet["m0"].alive


# Any history

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
def test_any_history(stages: list[int], steps: list[Any], stubborn: set[int]) -> None:
    """Whatever happens: nothing is done to the dead, nobody is started twice (`carry_out` checks), every stop ends."""
    fleet = Replay(*stages)
    for step in steps:
        apply(fleet, step)
    fleet.stop()
    turns = 0
    while not over(fleet.members, fleet.now, fleet.stopping, LIMITS):
        fleet.turn()
        turns += 1
        for number, member in enumerate(fleet.members):
            if member.phase is Phase.KILLED and number not in stubborn:
                fleet.exit(member.spec.name, SIGKILL)
    assert turns * TICK_S <= LIMITS.stop_s + LIMITS.reap_s + TICK_S
    # A stop that time itself has ended leaves those it has killed to the kernel.
    assert all(not member.alive or member.phase is Phase.KILLED for member in fleet.members)


def apply(fleet: Replay, step: Any) -> None:
    """One step of a history, where it can happen."""
    match step:
        case "turn", seconds:
            fleet.turn(seconds)
        case "exit", number, code if fleet.members[number].alive:
            fleet.exit(f"m{number}", code)
        case "report", number, ready, moved if fleet.members[number].alive:
            fleet.report(f"m{number}", ready=ready, capture=Promise(at=fleet.now + moved, within_s=10.0))
        case "refuse", number if fleet.members[number].phase is Phase.WAITING and fleet.stopping is None:
            fleet.members[number].put_off(NO_MEMORY, fleet.now)
        case ("excuse",):
            for member in fleet.members:
                member.excused(fleet.now)
        case "leave", number:
            fleet.members[number].leave(None)
        case "stop", hurry if not hurry or fleet.stopping is not None:
            fleet.stop(hurry=hurry)
