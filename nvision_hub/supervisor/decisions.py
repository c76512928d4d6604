"""What to do: members and a moment in, actions out. Nothing here waits, signals, logs or changes a member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvision_hub.supervisor.member import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.supervisor.member import Limits, Member


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


def decide(members: Sequence[Member], now: float, stopping: Stopping | None, limits: Limits) -> list[Action]:
    """What to do at `now` (monotonic seconds); `stopping` is None while all should live."""
    if stopping is not None:
        return _wind_down(members, now, stopping, limits)
    actions: list[Action] = []
    for member in members:
        if member.leaving:
            actions += _ending(member, now, limits.drain_s, limits.terminate_s)
        elif member.phase is Phase.WAITING and now >= member.due and _may_start(member, members, now):
            actions.append(Start(member.spec.name))
        elif member.phase is Phase.RUNNING and (reason := _stuck(member, now, limits)):
            actions.append(Kill(member.spec.name, reason))
    return actions


def over(members: Sequence[Member], now: float, stopping: Stopping | None, limits: Limits) -> bool:
    """Whether a stop has come to its end: nobody lives, or whoever does is beyond even SIGKILL (stuck in a driver)."""
    if stopping is None:
        return False
    return now - stopping.since > limits.stop_s + limits.reap_s or not any(member.alive for member in members)


def _may_start(member: Member, members: Sequence[Member], now: float) -> bool:
    return not any(other.spec.stage < member.spec.stage and other.holds_back(now) for other in members)


def _stuck(member: Member, now: float, limits: Limits) -> str | None:
    silent_s = now - max(member.heard, member.judged_from)
    if silent_s > limits.silent_after_s:
        return f"no report for {silent_s:.0f} s"
    if member.status is None or not member.fresh:
        return None
    for activity, promise in member.status.promises.items():
        if promise.broken(now, judged_from=member.judged_from):
            return f"no {activity} for {now - promise.at:.0f} s"
    return None


def _wind_down(members: Sequence[Member], now: float, stopping: Stopping, limits: Limits) -> list[Action]:
    alive = [member for member in members if member.alive]
    if now - stopping.since > limits.stop_s:
        return [Kill(m.spec.name, "the stop took too long") for m in alive if m.phase is not Phase.KILLED]
    last = max((member.spec.stage for member in alive), default=None)
    drain_s, terminate_s = limits.drain_s, limits.terminate_s
    if stopping.hurry:
        drain_s = terminate_s = limits.hurry_s
    actions: list[Action] = []
    for member in alive:
        if member.phase is not Phase.RUNNING or member.spec.stage == last:
            actions += _ending(member, now, drain_s, terminate_s)
    return actions


def _ending(member: Member, now: float, drain_s: float, terminate_s: float) -> list[Action]:
    """The next step of ending one member: asked, told, killed, each once the one before has had its time."""
    waited_s = now - member.since
    match member.phase:
        case Phase.RUNNING:
            return [Drain(member.spec.name)]
        case Phase.DRAINING if waited_s > drain_s:
            return [Terminate(member.spec.name)]
        case Phase.TERMINATING if waited_s > terminate_s:
            return [Kill(member.spec.name, "it did not stop when asked")]
        case _:
            return []
