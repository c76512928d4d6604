"""Who should be alive, and what to do about it.

`decide` is pure: members and a moment in, actions out; tests replay histories into it. `Supervisor` is the plain
loop that carries the actions out: it waits on descriptors, decodes nothing, serves nothing, and never blocks on a
child. What the children are, it is told (`hub.py`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from nvision_hub.backoff import Backoff
from nvision_hub.child import Child, ChildSpec
from nvision_hub.errors import EXIT_CONFIG
from nvision_hub.link import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nvision_hub.status import Status

log = logging.getLogger("nvision_hub.supervisor")

READY_WITHIN_S: Final = 5.0  # a stage waits this long for the one before it, then goes on without
SILENT_AFTER_S: Final = 15.0  # a child that reports nothing for so long is stuck
CRASH_LOOP_EXITS: Final = 5
CRASH_LOOP_WINDOW_S: Final = 60.0
CRASH_LOOP_PAUSE_S: Final = 60.0
DRAIN_S: Final = 4.0
TERMINATE_S: Final = 1.5
STOP_S: Final = 8.5  # the whole stop: within the 10 s that process managers grant, with room for the reaping
HURRY_S: Final = 0.5  # each deadline, after a second signal
SHOWN_EVERY_S: Final = 0.5
TICK_S: Final = 0.25  # bounds how late a restart or a deadline is


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
    """A child that should be alive, and its history. Holds no process: times and facts only."""

    spec: ChildSpec
    phase: Phase = Phase.WAITING
    since: float = 0.0  # when the phase was entered; monotonic seconds, as all times here
    due: float = 0.0
    pid: int | None = None
    heard: float = 0.0  # when it last reported, or was started
    status: Status | None = None  # its last report, kept after its death until the next one's first
    restarts: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.5, cap_s=30.0, healthy_s=60.0))
    exits: deque[float] = field(default_factory=deque)
    crash_loop: bool = False
    killed_for: str | None = None

    def enter(self, phase: Phase, now: float) -> None:
        """The one transition."""
        log.debug("%s: %s -> %s", self.spec.name, self.phase, phase)
        self.phase, self.since = phase, now

    def started(self, pid: int, now: float) -> None:
        """It has been forked."""
        self.pid, self.heard, self.killed_for = pid, now, None
        self.enter(Phase.RUNNING, now)

    def reported(self, status: Status, now: float) -> None:
        """A status has arrived."""
        self.status, self.heard = status, now
        if status.ready:
            self.backoff.healthy(now)
            if now - self.since > CRASH_LOOP_WINDOW_S:
                self.crash_loop = False

    def exited(self, code: int, now: float) -> None:
        """It has ended, asked or not; decides when it is due again."""
        self.pid = None
        if self.phase is not Phase.RUNNING and self.killed_for is None:
            self.enter(Phase.ENDED, now)
            return
        if code == EXIT_CONFIG:
            log.error("%s cannot run with this configuration; it is not started again", self.spec.name)
            self.enter(Phase.ENDED, now)
            return
        self.restarts += 1
        self.backoff.failed()
        self.exits.append(now)
        while self.exits and now - self.exits[0] > CRASH_LOOP_WINDOW_S:
            self.exits.popleft()
        # Once open, the breaker stays open until a run has lasted: one try a minute, not five.
        self.crash_loop = self.crash_loop or len(self.exits) >= CRASH_LOOP_EXITS
        delay = self.backoff.next_s()
        if self.crash_loop:
            delay = CRASH_LOOP_PAUSE_S * self.backoff.rng.uniform(0.9, 1.1)
        self.due = now + delay
        self.enter(Phase.WAITING, now)
        reason = self.killed_for or (f"signal {-code}" if code < 0 else f"exit code {code}")
        loop = "; crash loop" if self.crash_loop else ""
        log.warning("%s ended (%s%s); started again in %.1f s", self.spec.name, reason, loop, delay)

    @property
    def ready(self) -> bool:
        """Whether it does its job for others."""
        return (
            self.phase is Phase.RUNNING
            and self.status is not None
            and self.status.pid == self.pid
            and self.status.ready
        )


@dataclass(frozen=True, slots=True)
class Start:
    """Fork it."""

    name: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Ask it to finish what it has and end."""

    name: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """SIGTERM: it did not end when asked."""

    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL, and why."""

    name: str
    reason: str


Action = Start | Drain | Terminate | Kill


@dataclass(frozen=True, slots=True)
class Stopping:
    """A stop that is under way: since when, and whether a second signal asked for haste."""

    since: float
    hurry: bool = False


def decide(members: Sequence[Member], now: float, stopping: Stopping | None) -> list[Action]:
    """What to do at `now`. Reads only; nothing here waits, signals or logs."""
    if stopping is not None:
        return _wind_down(members, now, stopping)
    actions: list[Action] = []
    for member in members:
        if member.phase is Phase.WAITING and now >= member.due and _may_start(member, members, now):
            actions.append(Start(member.spec.name))
        elif member.phase is Phase.RUNNING and (reason := _stuck(member, now)):
            actions.append(Kill(member.spec.name, reason))
    return actions


def _may_start(member: Member, members: Sequence[Member], now: float) -> bool:
    """Every earlier stage is ready, or has had its time: one bad child must not hold back all others."""
    earlier = (other for other in members if other.spec.stage < member.spec.stage)
    return all(
        other.ready or other.restarts or other.phase is Phase.ENDED
        or (other.phase is Phase.RUNNING and now - other.since > READY_WITHIN_S)
        for other in earlier
    )  # fmt: skip


def _stuck(member: Member, now: float) -> str | None:
    if now - member.heard > SILENT_AFTER_S:
        return f"no report for {now - member.heard:.0f} s"
    if member.status is None or member.status.pid != member.pid:
        return None
    for activity, promise in member.status.promises.items():
        if promise.broken(now):
            return f"no {activity} for {now - promise.at:.0f} s"
    return None


def _wind_down(members: Sequence[Member], now: float, stopping: Stopping) -> list[Action]:
    alive = [member for member in members if member.phase in ALIVE]
    if not alive:
        return []
    if now - stopping.since > STOP_S:
        return [Kill(m.spec.name, "stop took too long") for m in alive if m.phase is not Phase.KILLED]
    last = max(member.spec.stage for member in alive)
    drain_s, terminate_s = (HURRY_S, HURRY_S) if stopping.hurry else (DRAIN_S, TERMINATE_S)
    actions: list[Action] = []
    for member in alive:
        waited = now - member.since
        if member.phase is Phase.RUNNING and member.spec.stage == last:
            actions.append(Drain(member.spec.name))
        elif member.phase is Phase.DRAINING and waited > drain_s:
            actions.append(Terminate(member.spec.name))
        elif member.phase is Phase.TERMINATING and waited > terminate_s:
            actions.append(Kill(member.spec.name, "did not stop when asked"))
    return actions


class Supervisor:
    """The loop. `watch` is called with the members about twice a second, for whoever shows them."""

    def __init__(
        self,
        specs: Iterable[ChildSpec],
        *,
        watch: Callable[[Sequence[Member]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._members = {spec.name: Member(spec=spec) for spec in specs}
        self._children: dict[str, Child] = {}
        self._watch = watch
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._stopping: Stopping | None = None
        self._stopped_by = signal.SIGTERM

    def run(self) -> signal.Signals:
        """Keep the members alive until SIGTERM or SIGINT, then stop them in order; returns when none is left.

        Tells which of the two began the stop.
        """
        woken, wakes = socket.socketpair()
        with woken, wakes, self._selector:
            woken.settimeout(0)
            wakes.settimeout(0)
            self._selector.register(woken, selectors.EVENT_READ, None)
            before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
            signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
            try:
                self._loop(woken)
            finally:
                signal.set_wakeup_fd(-1)
                for number, handler in before.items():
                    signal.signal(number, handler)
                self._end_all()
        return self._stopped_by

    def _note(self, number: int, _frame: object) -> None:
        self._signals.append(number)

    def _loop(self, woken: socket.socket) -> None:
        shown = float("-inf")
        while self._stopping is None or self._children:
            now = self._clock()
            for action in decide(list(self._members.values()), now, self._stopping):
                self._carry_out(action, now)
            if self._watch is not None and now - shown >= SHOWN_EVERY_S:
                shown = now
                self._watch(list(self._members.values()))
            ended: list[str] = []
            for key, _ in self._selector.select(TICK_S):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(1024)
                else:
                    name, what = key.data
                    if what == "ended":
                        ended.append(name)
                    else:
                        self._hear(name)
            for name in ended:
                self._reap(name)
            self._heed_signals()

    def _heed_signals(self) -> None:
        while self._signals:
            number = signal.Signals(self._signals.pop(0))
            if self._stopping is None:
                log.info("stopping (%s); once more to hurry", number.name)
                self._stopped_by = number
                self._stopping = Stopping(self._clock())
            else:
                self._stopping = Stopping(self._stopping.since, hurry=True)

    def _carry_out(self, action: Action, now: float) -> None:
        member = self._members[action.name]
        match action:
            case Start():
                self._start(member, now)
            case Drain():
                # A child that does not read its pipe still has its SIGTERM coming.
                self._children[action.name].ask(Command(verb="drain"))
                member.enter(Phase.DRAINING, now)
            case Terminate():
                self._children[action.name].terminate()
                member.enter(Phase.TERMINATING, now)
            case Kill(reason=reason):
                log.warning("%s is killed: %s", action.name, reason)
                if self._stopping is None:
                    member.killed_for = reason
                self._children[action.name].kill()
                member.enter(Phase.KILLED, now)

    def _start(self, member: Member, now: float) -> None:
        name = member.spec.name
        try:
            child = Child(member.spec)
        except OSError as error:  # out of processes, memory or descriptors: as if it had started and died
            log.error("%s could not be started: %s", name, os.strerror(error.errno or 0))  # noqa: TRY400
            member.started(0, now)
            member.exited(1, now)
            return
        self._children[name] = child
        self._selector.register(child.sentinel, selectors.EVENT_READ, (name, "ended"))
        self._selector.register(child.pipe, selectors.EVENT_READ, (name, "status"))
        member.started(child.pid, now)

    def _hear(self, name: str) -> None:
        child = self._children[name]
        try:
            status = child.receive()
        except EOFError:
            with contextlib.suppress(KeyError):  # heard before
                self._selector.unregister(child.pipe)
            return
        if status is not None:
            self._members[name].reported(status, self._clock())

    def _reap(self, name: str) -> None:
        child = self._children[name]
        if (code := child.exit_code) is None:
            return
        self._hear(name)  # its last words
        self._selector.unregister(child.sentinel)
        with contextlib.suppress(KeyError):  # it hung up before it ended
            self._selector.unregister(child.pipe)
        child.close()
        del self._children[name]
        self._members[name].exited(code, self._clock())

    def _end_all(self) -> None:
        """Whatever ended the loop, no child outlives it."""
        for child in self._children.values():
            child.kill()
        self._children.clear()
