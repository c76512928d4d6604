"""Decisions of the supervisor: `decide` returns actions for the given states of the processes and time.

Performs no I/O and changes no process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvision_hub.supervisor.process_state import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.supervisor.process_state import ProcessState, SupervisorLimits


@dataclass(frozen=True, slots=True)
class Action:
    """Next phase of a process. DRAINING starts with `Drain`, TERMINATING with SIGTERM, and KILLED with SIGKILL."""

    name: str
    phase: Phase
    reason: str | None = None  # why the supervisor kills the process; None for the other phases


@dataclass(frozen=True, slots=True)
class Stopping:
    """A stop in progress."""

    since: float
    hurry: bool = False  # whether a second signal has arrived


def decide(
    processes: Sequence[ProcessState], now: float, stopping: Stopping | None, limits: SupervisorLimits
) -> list[Action]:
    """Return the actions due at `now` (monotonic seconds). `stopping` is None unless a stop is in progress."""
    if stopping is not None:
        return _wind_down(processes, now, stopping, limits)
    actions: list[Action] = []
    for process in processes:
        if process.ending:
            actions += _next_step(process, now, limits.drain_s, limits.terminate_s)
        elif process.phase is Phase.WAITING and now >= process.due and _may_start(process, processes, now):
            actions.append(Action(process.spec.name, Phase.RUNNING))
        elif process.phase is Phase.RUNNING and (reason := _stuck(process, now, limits)):
            actions.append(Action(process.spec.name, Phase.KILLED, reason))
    return actions


def is_over(processes: Sequence[ProcessState], now: float, stopping: Stopping | None, limits: SupervisorLimits) -> bool:
    """Return whether a stop is complete: each process has ended, or is stuck in a driver and has survived SIGKILL."""
    if stopping is None:
        return False
    return now - stopping.since > limits.stop_s + limits.reap_s or not any(process.alive for process in processes)


def _may_start(process: ProcessState, processes: Sequence[ProcessState], now: float) -> bool:
    return not any(other.spec.stage < process.spec.stage and other.blocks_later_stages(now) for other in processes)


def _stuck(process: ProcessState, now: float, limits: SupervisorLimits) -> str | None:
    silent_s = now - max(process.reported_at, process.watchdog_since)
    if silent_s > limits.heartbeat_timeout_s:
        return f"no report for {silent_s:.0f} s"
    if process.status is None or not process.fresh:
        return None
    for activity, deadline in process.status.deadlines.items():
        if deadline.is_missed(now, since=process.watchdog_since):
            return f"no {activity} for {now - deadline.at:.0f} s"
    return None


def _wind_down(
    processes: Sequence[ProcessState], now: float, stopping: Stopping, limits: SupervisorLimits
) -> list[Action]:
    alive = [process for process in processes if process.alive]
    if now - stopping.since > limits.stop_s:
        left = [process.spec.name for process in alive if process.phase is not Phase.KILLED]
        return [Action(name, Phase.KILLED, "the stop took too long") for name in left]
    last = max((process.spec.stage for process in alive), default=None)
    drain_s, terminate_s = limits.drain_s, limits.terminate_s
    if stopping.hurry:
        drain_s = terminate_s = limits.hurry_s
    actions: list[Action] = []
    for process in alive:
        if process.phase is not Phase.RUNNING or process.spec.stage == last:
            actions += _next_step(process, now, drain_s, terminate_s)
    return actions


def _next_step(process: ProcessState, now: float, drain_s: float, terminate_s: float) -> list[Action]:
    """Return the next step to end a process (drain, SIGTERM or SIGKILL); empty if no step is due."""
    waited_s = now - process.since
    match process.phase:
        case Phase.RUNNING:
            return [Action(process.spec.name, Phase.DRAINING)]
        case Phase.DRAINING if waited_s > drain_s:
            return [Action(process.spec.name, Phase.TERMINATING)]
        case Phase.TERMINATING if waited_s > terminate_s:
            return [Action(process.spec.name, Phase.KILLED, "it ignored the request to stop")]
        case _:
            return []
