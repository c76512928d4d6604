"""What the fleet's counts tell as news: processes that were started again, and results that were lost. Pure.

What was counted before this gateway first heard of a member is history, and no news.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nvision_hub.events import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.gateway.fleet import Fleet, Member

LOSS_EVERY_S: Final = 10.0  # of one camera and reason; what is lost meanwhile is told in sum

Event = dict[str, Any]
Key = TypeVar("Key")
Losses = dict[tuple[str | None, str], int]  # by camera (None: not known) and reason


def grown(former: Mapping[Key, int], present: Mapping[Key, int]) -> dict[Key, int]:
    """What came to each count; one that is less than before has begun anew, and tells nothing."""
    return {key: count - former.get(key, 0) for key, count in present.items() if count > former.get(key, 0)}


def losses(member: Member) -> Losses | None:
    """How many results a member has lost in all, None while that is not known.

    Those of the gateway itself came by callback, and name their camera where that is known.
    """
    if (counted := member.tally) is None:
        return None
    found: Losses = {}
    for (metric, labels), value in counted.counters.items():
        if metric == "results_lost_total":
            told = dict(labels)
            key = member.camera or told.get("camera"), told.get("reason", "")
            found[key] = found.get(key, 0) + int(value)
    return found


@dataclass(kw_only=True, slots=True)
class _Known:
    """What was told of one member, or was history; None before that is known. `due` is when each may be told again."""

    restarts: dict[str, int] | None = None
    lost: Losses | None = None
    due: dict[tuple[str | None, str], float] = field(default_factory=dict)


class Newsdesk:
    """`look` finds what is new since the look before."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._known: dict[str, _Known] = {}

    def look(self, fleet: Fleet, now: float) -> list[Event]:
        """The news, as they go to `nvision:events`. `now` is monotonic."""
        self._known = {name: self._known.get(name) or _Known() for name in fleet.members}
        found: list[Event] = []
        for name, known in self._known.items():
            found += self._restarts(fleet.members[name], known)
            found += self._losses(fleet.members[name], known, now)
        return found

    def _restarts(self, member: Member, known: _Known) -> Iterator[Event]:
        if member.account.started_at is None:  # it has never run, or nobody knows of it now
            return
        present = dict(member.account.restarts)
        former, known.restarts = known.restarts, present
        for reason in () if former is None else grown(former, present):
            yield self._event(
                "worker_restart",
                worker=member.name,
                camera=member.camera,
                reason=reason,
                restarts=sum(present.values()),
            )

    def _losses(self, member: Member, known: _Known, now: float) -> Iterator[Event]:
        present = losses(member)
        if present is None:
            return
        if known.lost is None:
            known.lost = present
        for key, count in grown(known.lost, present).items():
            if now >= known.due.get(key, now):
                known.lost[key], known.due[key] = present[key], now + LOSS_EVERY_S
                camera, reason = key
                yield self._event("loss", camera=camera, what="results", reason=reason, count=count)

    def _event(self, kind: str, /, **told: Any) -> Event:
        return {"id": new_id(), "kind": kind, "site": self._site, **told}
