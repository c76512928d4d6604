"""Hub events: restarts and losses after the gateway's first report about a process."""

from __future__ import annotations

from typing import Any

from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.messages import ProcessChanged, ProcessInfo, ProcessRemoved, StatusReported
from tests.support.gateway import facts, status
from workers.gateway.state.events import LOSS_INTERVAL_S, HubEventDetector, increases
from workers.gateway.state.fleet import FleetState

LOBBY = "camera:lobby"


def set_process(fleet: FleetState, name: str = LOBBY, **fields: Any) -> None:
    info = {"name": name, "phase": "running", "pid": 1, "started_at": 1.0, "facts": facts("lobby"), **fields}
    fleet.on_message(ProcessChanged(info=ProcessInfo(**info)), wall=0.0)


def lost(fleet: FleetState, name: str = LOBBY, **reasons: int) -> None:
    meter = Meter()
    for reason, count in reasons.items():
        meter.set_counter(catalogue.RESULTS_LOST_TOTAL, count, reason=reason)
    fleet.on_message(StatusReported(name=name, status=status(1, meter)), wall=0.0)


def detect(detector: HubEventDetector, fleet: FleetState, now: float = 0.0) -> list[dict[str, Any]]:
    """Return the events without their ids, which differ in each run."""
    events = detector.detect(fleet, now)
    assert len({event["id"] for event in events}) == len(events)
    return [{key: value for key, value in event.items() if key != "id"} for event in events]


def test_a_restart_is_reported_once_and_earlier_ones_never() -> None:
    fleet, detector = FleetState(), HubEventDetector("here")
    set_process(fleet, restarts={"sigkill": 3})
    assert detect(detector, fleet) == []
    set_process(fleet, phase="waiting", pid=None, restarts={"sigkill": 3, "stuck": 1})
    assert detect(detector, fleet) == [
        {
            "kind": "worker_restart",
            "site": "here",
            "worker": LOBBY,
            "camera": "lobby",
            "reason": "stuck",
            "restarts": 4,
        }
    ]
    set_process(fleet, pid=2, restarts={"sigkill": 3, "stuck": 1})
    assert detect(detector, fleet) == []


def test_other_processes_have_no_camera() -> None:
    fleet, detector = FleetState(), HubEventDetector("here")
    set_process(fleet, "broker", facts=None)
    detect(detector, fleet)
    set_process(fleet, "broker", facts=None, restarts={"exit_1": 1})
    (event,) = detect(detector, fleet)
    assert (event["worker"], event["camera"]) == ("broker", None)


def test_a_process_that_has_never_run_causes_no_event() -> None:
    fleet, detector = FleetState(), HubEventDetector("here")
    set_process(fleet, phase="waiting", pid=None, started_at=None)
    assert detect(detector, fleet) == []
    set_process(fleet, restarts={"sigkill": 2})
    assert detect(detector, fleet) == [], "the gateway has just read the record of a process on another hub"


def test_losses_are_reported_immediately_and_then_as_a_sum() -> None:
    fleet, detector = FleetState(), HubEventDetector("here")
    set_process(fleet)
    assert detect(detector, fleet) == []
    lost(fleet, unreadable=5)
    assert detect(detector, fleet, 2.0) == [], "losses before the first call cause no event"
    loss = {"kind": "loss", "site": "here", "camera": "lobby", "what": "results"}
    lost(fleet, unreadable=6)
    assert detect(detector, fleet, 4.0) == [{**loss, "reason": "unreadable", "count": 1}]
    lost(fleet, unreadable=9, spool_full=2)
    assert detect(detector, fleet, 6.0) == [{**loss, "reason": "spool_full", "count": 2}]
    lost(fleet, unreadable=10, spool_full=2)
    assert detect(detector, fleet, 4.0 + LOSS_INTERVAL_S) == [{**loss, "reason": "unreadable", "count": 4}]
    assert detect(detector, fleet, 100.0) == []


def test_losses_of_an_ended_process_are_reported() -> None:
    fleet, detector = FleetState(), HubEventDetector("here")
    set_process(fleet)
    lost(fleet, unreadable=1)
    detect(detector, fleet)
    past = Meter()
    past.count(catalogue.RESULTS_LOST_TOTAL, by=3, reason="unreadable")
    set_process(fleet, phase="waiting", pid=None, past=past.snapshot())
    (event,) = detect(detector, fleet, 20.0)
    assert event["count"] == 2


def test_a_result_by_callback_may_have_no_camera() -> None:
    fleet, detector = FleetState(), HubEventDetector("here")
    set_process(fleet, "gateway", facts=None)
    lost(fleet, "gateway")
    detect(detector, fleet)
    lost(fleet, "gateway", redis_away=7)
    (event,) = detect(detector, fleet)
    assert (event["camera"], event["reason"], event["count"]) == (None, "redis_away", 7)


def test_a_camera_that_is_added_again_has_new_counts() -> None:
    fleet, detector = FleetState(), HubEventDetector("here")
    set_process(fleet)
    lost(fleet, unreadable=1)
    detect(detector, fleet)
    fleet.on_message(ProcessRemoved(name=LOBBY), wall=0.0)
    detect(detector, fleet)
    set_process(fleet, restarts={"sigkill": 1})
    lost(fleet, unreadable=4)
    assert detect(detector, fleet) == []


def test_a_reset_count_causes_no_event() -> None:
    assert increases({"a": 3, "b": 1}, {"a": 2, "b": 2, "c": 1}) == {"b": 1, "c": 1}
