"""One child that should be alive: where it stands, its history, and when it is due again. Holds no process.

All times are monotonic seconds and are given by the caller, so that tests replay histories with a clock of their own.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.backoff import Backoff
from nvision_hub.errors import EXIT_CONFIG
from nvision_hub.oversight import Account
from nvision_hub.status import Meter

if TYPE_CHECKING:
    from nvision_hub.child import ChildSpec
    from nvision_hub.status import Status

log = logging.getLogger("nvision_hub.supervisor")

# What a person does about a machine that cannot start one more process.
_MENDS: Final = {
    errno.EMFILE: "raise the limit of open files (`ulimit -n`, or LimitNOFILE= of its service)",
    errno.ENFILE: "raise the machine's limit of open files (`sysctl fs.file-max`)",
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`, or TasksMax= of its service)",
    errno.ENOMEM: "give the machine more memory, or run fewer cameras",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How patient the supervisor is."""

    ready_within_s: float = 5.0  # a stage waits this long for the one before it, then goes on without
    silent_after_s: float = 15.0  # a child that reports nothing for so long is stuck
    stood_still_s: float = 2.0  # a turn of the loop that took longer than this was no turn: the supervisor was stopped
    restart_first_s: float = 0.5
    restart_cap_s: float = 30.0
    healthy_s: float = 60.0  # a run that lasts so long forgets the failures before it
    crash_loop_exits: int = 5  # within `crash_loop_window_s`
    crash_loop_window_s: float = 60.0
    crash_loop_pause_s: float = 60.0
    no_room_pause_s: float = 4.0  # where the machine has no process, memory or descriptor to give
    drain_s: float = 4.0
    terminate_s: float = 1.5
    hurry_s: float = 0.5  # each deadline, after a second signal
    stop_s: float = 8.5  # then all are killed: process managers grant 10 s
    reap_s: float = 0.5  # what a kill may take; whoever is not gone then is left to the kernel


class Phase(StrEnum):
    """Where a member stands."""

    WAITING = "waiting"  # to be started at `due`
    RUNNING = "running"
    DRAINING = "draining"
    TERMINATING = "terminating"
    KILLED = "killed"
    ENDED = "ended"  # not to be started again


ALIVE: Final = frozenset({Phase.RUNNING, Phase.DRAINING, Phase.TERMINATING, Phase.KILLED})


@dataclass(kw_only=True)
class Member:
    """A child that should be alive, and its history."""

    spec: ChildSpec
    limits: Limits = field(default_factory=Limits)
    phase: Phase = Phase.WAITING
    since: float = 0.0  # when the phase was entered
    due: float = 0.0
    tried: float | None = None  # when a start was first tried; None before that
    pid: int | None = None  # None while it does not live
    heard: float = 0.0  # when it last reported, or was started
    started_at: float | None = None  # when its last process was started; None before the first
    judged_from: float = 0.0  # no silence counts from before this moment
    status: Status | None = None  # its last report, kept after its death until the next one's first
    fresh: bool = False  # whether `status` is of the process that lives now
    restarts: int = 0  # those that nobody asked for
    reasons: Counter[str] = field(default_factory=Counter)  # of every restart, asked for or not
    past: Meter = field(default_factory=Meter)  # what its processes before this one have counted
    crash_loop: bool = False
    killed_for: str | None = None
    leaving: bool = False  # to be ended, and then replaced by `successor`, or forgotten where that is None
    successor: ChildSpec | None = None
    exits: deque[float] = field(default_factory=deque)  # the unasked ones of the last `crash_loop_window_s`
    backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self.backoff = Backoff(
            first_s=self.limits.restart_first_s, cap_s=self.limits.restart_cap_s, healthy_s=self.limits.healthy_s
        )

    @property
    def alive(self) -> bool:
        """Whether it has a process."""
        return self.phase in ALIVE

    @property
    def ready(self) -> bool:
        """Whether it does its job for others."""
        return self.phase is Phase.RUNNING and self.fresh and self.status is not None and self.status.ready

    def holds_back(self, now: float) -> bool:
        """Whether later stages still wait for it: until it is ready, or has had its time."""
        if not self.spec.awaited or self.ready or self.leaving or self.phase is Phase.ENDED:
            return False
        return self.tried is None or now - self.tried <= self.limits.ready_within_s

    def enter(self, phase: Phase, now: float) -> None:
        """The one transition."""
        log.debug("%s: %s -> %s", self.spec.name, self.phase, phase)
        self.phase, self.since = phase, now

    def started(self, pid: int, now: float) -> None:
        """It has been forked."""
        self.tried = now if self.tried is None else self.tried
        self.pid, self.fresh, self.killed_for = pid, False, None
        self.heard = self.judged_from = self.started_at = now
        self.enter(Phase.RUNNING, now)

    def put_off(self, error: OSError, now: float) -> None:
        """It could not be forked, which is the machine's failure and none of its own."""
        self.tried = now if self.tried is None else self.tried
        delay = self.limits.no_room_pause_s * self.backoff.rng.uniform(0.5, 1.5)
        self.due = now + delay
        self.enter(Phase.WAITING, now)
        number = error.errno or 0
        why = f"{os.strerror(number)}; {_MENDS.get(number, 'mend that, or run fewer cameras')}"
        told = "%s could not be started: %s (tried again in %.1f s)"
        # One fault of the machine, whomever it hits: a hundred cameras would tell it a hundred times.
        log.error(told, self.spec.name, why, delay, extra={"fault": f"no room: {number}"})

    def reported(self, status: Status, now: float) -> None:
        """A status has arrived. A worker that goes on working is healthy, though its camera may not be."""
        self.status, self.fresh, self.heard = status, True, now
        self.backoff.healthy(now)
        if self.backoff.tries == 0:
            self.crash_loop = False

    def excused(self, now: float) -> None:
        """The supervisor itself stood still until `now`: nobody is judged by the silence that it did not hear."""
        self.judged_from = now

    def account(self, now: float) -> Account:
        """What overseers are told of it, besides its status."""
        return Account(
            name=self.spec.name,
            phase=self.phase,
            pid=self.pid,
            started_at=self.started_at,
            due_in_s=max(0.0, self.due - now) if self.phase is Phase.WAITING else None,
            crash_loop=self.crash_loop,
            restarts=dict(self.reasons),
            facts=self.spec.facts,
            past=self.past.snapshot(),
        )

    @property
    def account_key(self) -> tuple[Any, ...]:
        """Changes whenever the account does."""
        return self.phase, self.since, self.pid, self.crash_loop, id(self.spec)

    def succeed(self, other: Member, reason: str) -> None:
        """Take the place of `other`, which was ended for it: what it has counted goes on being counted."""
        self.restarts, self.reasons, self.past = other.restarts, other.reasons, other.past
        if other.tried is not None:
            self.reasons[reason] += 1

    def leave(self, successor: ChildSpec | None) -> None:
        """It is to end, for the `successor` that takes its place; for good where that is None."""
        self.leaving, self.successor = True, successor

    def exited(self, code: int, now: float, *, wanted: bool) -> None:
        """Its process has ended; where it is still `wanted`, decides when it is due again."""
        self._settle_accounts()
        self.pid, self.fresh = None, False
        if self.leaving or not wanted:
            self.enter(Phase.ENDED, now)
        elif code == EXIT_CONFIG and self.killed_for is None:
            log.error("%s cannot run with this configuration; it is not started again", self.spec.name)
            self.enter(Phase.ENDED, now)
        else:
            self.reasons["stuck" if self.killed_for else _ending(code)] += 1
            self._start_again(self.killed_for or (f"signal {-code}" if code < 0 else f"exit code {code}"), now)

    def _settle_accounts(self) -> None:
        if self.status is None or not self.fresh:
            return
        try:
            self.past.add(self.status.metrics)
        except (TypeError, ValueError, KeyError, AttributeError):
            log.warning("%s ended with metrics that cannot be read; they are lost", self.spec.name)

    def _start_again(self, reason: str, now: float) -> None:
        self.restarts += 1
        self.exits.append(now)
        while now - self.exits[0] > self.limits.crash_loop_window_s:
            self.exits.popleft()
        delay = self.backoff.next_s()
        # Once open, the breaker stays open until a run has lasted: one try a minute, not five.
        self.crash_loop = self.crash_loop or len(self.exits) >= self.limits.crash_loop_exits
        if self.crash_loop:
            delay = self.limits.crash_loop_pause_s * self.backoff.rng.uniform(0.9, 1.1)
        self.due = now + delay
        self.enter(Phase.WAITING, now)
        loop = "; crash loop" if self.crash_loop else ""
        # Each end is news of its own, which the backoff keeps rare: none is held back as a repetition.
        end = {"fault": f"{self.spec.name}, end {self.restarts}"}
        log.warning("%s ended (%s%s); started again in %.1f s", self.spec.name, reason, loop, delay, extra=end)


def _ending(code: int) -> str:
    """An exit code as one word, for metrics."""
    if code >= 0:
        return f"exit_{code}"
    try:
        return signal.Signals(-code).name.lower()
    except ValueError:  # a real-time signal
        return f"signal_{-code}"
