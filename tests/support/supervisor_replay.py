"""A fleet for tests of the supervisor's policy, without processes and with a fake clock."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING, Any

from nvision_hub.errors import EXIT_FAILED
from nvision_hub.runtime.process import ProcessSpec
from nvision_hub.runtime.status import Deadline, Status
from nvision_hub.supervisor.policy import Action, Stopping, decide
from nvision_hub.supervisor.process_state import Phase, ProcessState, SupervisorLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

TICK_S = 0.25
LIMITS = SupervisorLimits()
SIGKILL = -9
NO_MEMORY = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def nothing(_settings: Any, _pipe: SupervisorPipe) -> None:
    """Entry point for children that are never forked."""


class Replay:
    """A fleet without processes. It performs the actions that `decide` returns. The test controls the children."""

    def __init__(self, *stages: int, limits: SupervisorLimits = LIMITS) -> None:
        self.limits = limits
        self.members = [
            ProcessState(spec=ProcessSpec(name=f"m{number}", stage=stage, entry=nothing, settings=None), limits=limits)
            for number, stage in enumerate(stages)
        ]
        for member in self.members:
            member.backoff.rng = random.Random(member.spec.name)  # noqa: S311 - repeatable, no secret
        self.now = 1000.0
        self.pids = iter(range(100, 1_000_000))
        self.stopping: Stopping | None = None
        self.done: list[tuple[float, Action]] = []  # every action with its time
        self.reporting: set[str] = set()

    def __getitem__(self, name: str) -> ProcessState:
        return next(member for member in self.members if member.spec.name == name)

    def turn(self, by_s: float = TICK_S) -> list[Action]:
        """Run one tick after `by_s` seconds. First, the children in `reporting` report."""
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
        match action.phase:
            case Phase.RUNNING:
                assert not member.alive, "a running child was started again"
                assert self.stopping is None, "a child was started during a stop"
                member.on_start(next(self.pids), self.now)
            case Phase.DRAINING:
                assert member.phase is Phase.RUNNING
                member.enter(Phase.DRAINING, self.now)
            case Phase.TERMINATING:
                assert member.phase is Phase.DRAINING
                member.enter(Phase.TERMINATING, self.now)
            case _:
                assert action.phase is Phase.KILLED
                assert member.alive, "an exited child was killed"
                assert member.phase is not Phase.KILLED, "a killed child was killed again"
                member.kill_reason = action.reason
                member.enter(Phase.KILLED, self.now)

    def report(self, name: str, *, ready: bool = True, **deadlines: Deadline) -> None:
        member = self[name]
        assert member.pid is not None
        member.on_status(
            Status(pid=member.pid, at=self.now, state="running", ready=ready, deadlines=deadlines), self.now
        )

    def exit(self, name: str, code: int = EXIT_FAILED) -> None:
        self[name].on_exit(code, self.now, wanted=self.stopping is None)

    def stop(self, *, hurry: bool = False) -> None:
        self.stopping = Stopping(self.now if self.stopping is None else self.stopping.since, hurry)

    def until(self, condition: Callable[[], bool], timeout_s: float) -> float:
        """Run ticks until the condition is true. Return the elapsed seconds of the fake clock."""
        began = self.now
        while not condition():
            assert self.now - began <= timeout_s, f"not within {timeout_s} s"
            self.turn()
        return self.now - began

    def crash_after(self, name: str, seconds: float, times: int) -> list[float]:
        """Let a child report and then crash `seconds` after its start, `times` times. Return the restart delays."""
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
        """Return whether a child is in a crash loop."""
        return self[name].crash_loop

    @property
    def running(self) -> set[str]:
        return {member.spec.name for member in self.members if member.phase is Phase.RUNNING}
