"""State, history and restart schedule of one supervised process. Neither starts nor signals a process.

The caller passes all times in monotonic seconds, so tests can replay histories with their own clock.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nvision_hub.backoff import Backoff
from nvision_hub.errors import EXIT_CONFIG
from nvision_hub.metrics.snapshot import MetricSnapshot
from nvision_hub.runtime.messages import ProcessInfo
from nvision_hub.runtime.process_resources import FIXES

if TYPE_CHECKING:
    from nvision_hub.runtime.process import ProcessSpec
    from nvision_hub.runtime.status import Status

log = logging.getLogger("nvision_hub.supervisor")


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisorLimits:
    """Limits of the supervisor."""

    ready_timeout_s: float = 5.0  # the next stage starts after this time, even if this stage is not ready
    heartbeat_timeout_s: float = 15.0  # a process without a report for this time counts as stuck
    suspend_gap_s: float = 2.0  # a longer tick means that the supervisor was suspended
    restart_first_s: float = 0.5
    restart_max_s: float = 30.0
    healthy_s: float = 60.0  # a run of this length resets the backoff
    crash_loop_exits: int = 5  # this number of exits within `crash_loop_window_s` counts as a crash loop
    crash_loop_window_s: float = 60.0
    crash_loop_pause_s: float = 60.0
    # Mean delay before the next attempt if a process cannot start for lack of process slots, memory or descriptors.
    start_failure_delay_s: float = 4.0
    drain_s: float = 4.0
    terminate_s: float = 1.5
    hurry_s: float = 0.5  # replaces `drain_s` and `terminate_s` after a second signal
    stop_s: float = 8.5  # the supervisor kills all processes after this time, because service managers grant 10 s
    reap_s: float = 0.5  # time after a kill; the supervisor abandons a process that lives longer


class Phase(StrEnum):
    WAITING = "waiting"  # starts at `due`
    RUNNING = "running"
    DRAINING = "draining"
    TERMINATING = "terminating"
    KILLED = "killed"
    ENDED = "ended"  # never restarts


@dataclass(kw_only=True)
class ProcessState:
    spec: ProcessSpec
    limits: SupervisorLimits = field(default_factory=SupervisorLimits)
    phase: Phase = Phase.WAITING
    since: float = 0.0  # time at which the phase started
    due: float = 0.0  # time of the next start
    start_attempted_at: float | None = None  # time of the first attempt to start; None before that
    pid: int | None = None  # None while no process runs
    reported_at: float = 0.0  # time of the last status, or else of the start
    started_at: float | None = None  # time of the last start; None before the first start
    watchdog_since: float = 0.0  # silence before this time does not count
    status: Status | None = None  # the last status; after an exit, it stays until the next process reports
    fresh: bool = False  # whether `status` belongs to the current process
    restarts: int = 0  # unrequested restarts
    # Number of all restarts, requested or not, by reason.
    restart_reasons: Counter[str] = field(default_factory=Counter)
    past: MetricSnapshot = field(default_factory=MetricSnapshot)  # metrics of the earlier processes
    crash_loop: bool = False
    kill_reason: str | None = None
    ending: bool = False  # whether an end was requested
    successor: ProcessSpec | None = None  # spec that replaces an ending process; None if the process is removed
    exit_times: deque[float] = field(default_factory=deque)  # unrequested exits within `crash_loop_window_s`
    generation: object = field(default_factory=object, init=False)  # a new object for each change of the spec
    backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self.backoff = Backoff(
            first_s=self.limits.restart_first_s, cap_s=self.limits.restart_max_s, healthy_s=self.limits.healthy_s
        )

    @property
    def alive(self) -> bool:
        """Whether an operating-system process exists."""
        return self.phase not in {Phase.WAITING, Phase.ENDED}

    @property
    def ready(self) -> bool:
        """Whether the process runs and reports that it is ready."""
        return self.phase is Phase.RUNNING and self.fresh and self.status is not None and self.status.ready

    def blocks_later_stages(self, now: float) -> bool:
        """Return whether later stages must wait until this process is ready. They wait at most `ready_timeout_s`."""
        if not self.spec.awaited or self.ready or self.ending or self.phase is Phase.ENDED:
            return False
        return self.start_attempted_at is None or now - self.start_attempted_at <= self.limits.ready_timeout_s

    def enter(self, phase: Phase, now: float) -> None:
        """Change the phase. No other method changes it."""
        log.debug("%s: %s -> %s", self.spec.name, self.phase, phase)
        self.phase, self.since = phase, now

    def on_start(self, pid: int, now: float) -> None:
        self.start_attempted_at = now if self.start_attempted_at is None else self.start_attempted_at
        self.pid, self.fresh, self.kill_reason = pid, False, None
        self.reported_at = self.watchdog_since = self.started_at = now
        self.enter(Phase.RUNNING, now)

    def on_start_failed(self, error: OSError, now: float) -> None:
        """Schedule another attempt to start. The failure does not count as an exit, because the machine caused it."""
        self.start_attempted_at = now if self.start_attempted_at is None else self.start_attempted_at
        delay = self.limits.start_failure_delay_s * self.backoff.rng.uniform(0.5, 1.5)
        self.due = now + delay
        self.enter(Phase.WAITING, now)
        number = error.errno or 0
        # The log's rate limit must count a fault of the machine once, not once for each of a hundred cameras.
        log.error(
            "%s could not start: %s; %s; retrying in %.1f s",
            self.spec.name,
            os.strerror(number),
            FIXES.get(number, "fix this error, or run fewer cameras"),
            delay,
            extra={"fault": f"no room: {number}", "event": "process_start_failed"},
        )

    def on_status(self, status: Status, now: float) -> None:
        """Record a status. A worker that reports counts as healthy, even if its camera fails."""
        self.status, self.fresh, self.reported_at = status, True, now
        self.backoff.healthy(now)
        if self.backoff.tries == 0:
            self.crash_loop = False

    def reset_watchdog(self, now: float) -> None:
        """Ignore silence before `now`."""
        self.watchdog_since = now

    def info(self, now: float) -> ProcessInfo:
        return ProcessInfo(
            name=self.spec.name,
            phase=self.phase,
            pid=self.pid,
            started_at=self.started_at,
            due_in_s=max(0.0, self.due - now) if self.phase is Phase.WAITING else None,
            crash_loop=self.crash_loop,
            restarts=dict(self.restart_reasons),
            facts=self.spec.facts,
            past=self.past,
        )

    @property
    def info_version(self) -> tuple[Any, ...]:
        """Value that changes whenever subscribers need a new `info`."""
        return self.phase, self.since, self.pid, self.crash_loop, self.generation

    def replace_spec(self, spec: ProcessSpec) -> None:
        """Replace the spec while the process keeps running. The next start uses the new spec."""
        self.spec, self.generation = spec, object()

    def inherit(self, other: ProcessState, reason: str) -> None:
        """Continue the counters of `other`. This process replaces `other`."""
        self.restarts, self.restart_reasons, self.past = other.restarts, other.restart_reasons, other.past
        if other.start_attempted_at is not None:
            self.restart_reasons[reason] += 1

    def request_end(self, successor: ProcessSpec | None) -> None:
        """Request the end of the process. `successor` will replace the process; None removes the process."""
        self.ending, self.successor = True, successor

    def on_exit(self, code: int, now: float, *, wanted: bool) -> None:
        """Record an exit. If the process is `wanted`, schedule a restart, unless it was ending or is misconfigured."""
        if self.status is not None and self.fresh:
            self.past = replace(self.past.merge(self.status.metrics), gauges={})
        self.pid, self.fresh = None, False
        if self.ending or not wanted:
            self.enter(Phase.ENDED, now)
        elif code == EXIT_CONFIG and self.kill_reason is None:
            log.error(
                "%s exited: its configuration is invalid; it is not restarted",
                self.spec.name,
                extra={"event": "process_misconfigured"},
            )
            self.enter(Phase.ENDED, now)
        else:
            self.restart_reasons["stuck" if self.kill_reason else _exit_label(code)] += 1
            self._schedule_restart(self.kill_reason or (f"signal {-code}" if code < 0 else f"exit code {code}"), now)

    def _schedule_restart(self, reason: str, now: float) -> None:
        self.restarts += 1
        self.exit_times.append(now)
        while now - self.exit_times[0] > self.limits.crash_loop_window_s:
            self.exit_times.popleft()
        delay = self.backoff.next_s()
        # `crash_loop` stays True until a run has lasted `healthy_s`. Until then, the process restarts about once a
        # minute instead of five times.
        self.crash_loop = self.crash_loop or len(self.exit_times) >= self.limits.crash_loop_exits
        if self.crash_loop:
            delay = self.limits.crash_loop_pause_s * self.backoff.rng.uniform(0.9, 1.1)
        self.due = now + delay
        self.enter(Phase.WAITING, now)
        loop = "; crash loop" if self.crash_loop else ""
        # Each exit is a separate fault, so the rate limit must suppress no line. The backoff keeps exits rare.
        log.warning(
            "%s exited (%s%s); restarting in %.1f s",
            self.spec.name,
            reason,
            loop,
            delay,
            extra={"fault": f"{self.spec.name}, end {self.restarts}", "event": "process_exited"},
        )


def _exit_label(code: int) -> str:
    """Return an exit code as one word for metrics."""
    if code >= 0:
        return f"exit_{code}"
    try:
        return signal.Signals(-code).name.lower()
    except ValueError:  # a real-time signal
        return f"signal_{-code}"
