"""Hub events about process restarts and lost results, detected from the fleet's counters. Performs no I/O.

The first counts of each process cause no events, because they may be older than the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nvision_hub.metrics import catalogue
from nvision_hub.nvision.result_events import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.gateway.state.fleet import FleetState, MonitoredProcess

LOSS_INTERVAL_S: Final = 10.0  # per camera and reason; one event covers all losses within this interval

Event = dict[str, Any]
Key = TypeVar("Key")
LossKey = tuple[str | None, str]  # camera (None: unknown) and reason


def increases(before: Mapping[Key, int], now: Mapping[Key, int]) -> dict[Key, int]:
    """Return the increase of each count that has grown. Omit a count that has decreased, because it was reset."""
    return {key: count - before.get(key, 0) for key, count in now.items() if count > before.get(key, 0)}


@dataclass(kw_only=True, slots=True)
class _Reported:
    """Counts of one process that earlier events already cover; None while unknown."""

    restarts: dict[str, int] | None = None
    lost: dict[LossKey, int] | None = None
    due: dict[LossKey, float] = field(default_factory=dict)  # earliest time of the next event, in monotonic seconds


class HubEventDetector:
    """Detector of hub events. It compares all counts with the counts that it has already reported."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._reported: dict[str, _Reported] = {}

    def detect(self, fleet: FleetState, now: float) -> list[Event]:
        """Return the new events in the form published on `nvision:events`. `now` is in monotonic seconds."""
        self._reported = {name: self._reported.get(name) or _Reported() for name in fleet.processes}
        return [
            {"id": new_id(), "site": self._site, **event}
            for name, reported in self._reported.items()
            for event in (*_restarts(fleet.processes[name], reported), *_losses(fleet.processes[name], reported, now))
        ]


def _restarts(process: MonitoredProcess, reported: _Reported) -> Iterator[Event]:
    if process.info.started_at is None:  # the process has never run, or its state is unknown
        return
    restarts = process.info.restarts
    before, reported.restarts = reported.restarts, restarts
    for reason in () if before is None else increases(before, restarts):
        event = {"kind": "worker_restart", "worker": process.name, "camera": process.camera}
        yield {**event, "reason": reason, "restarts": sum(restarts.values())}


def _losses(process: MonitoredProcess, reported: _Reported, now: float) -> Iterator[Event]:
    if process.metrics is None:
        return
    lost: dict[LossKey, int] = {}
    for (name, pairs), value in process.metrics.counters.items():
        if name == catalogue.RESULTS_LOST_TOTAL.name:
            labels = dict(pairs)
            # The gateway can lose only results from callbacks. If the camera is known, the loss has a camera label.
            key = process.camera or labels.get("camera"), labels.get("reason", "")
            lost[key] = lost.get(key, 0) + int(value)
    if reported.lost is None:
        reported.lost = lost
    for key, count in increases(reported.lost, lost).items():
        if now >= reported.due.get(key, now):
            reported.lost[key], reported.due[key] = lost[key], now + LOSS_INTERVAL_S
            yield {"kind": "loss", "camera": key[0], "what": "results", "reason": key[1], "count": count}
