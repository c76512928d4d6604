"""What becomes news: restarts and losses since the gateway first heard of a member, and nothing before."""

from __future__ import annotations

from typing import Any

from nvision_hub.link import Command
from nvision_hub.oversight import GONE, Account, report_record
from nvision_hub.status import Meter
from tests.support.gateway import facts, status
from workers.gateway.fleet import Fleet
from workers.gateway.news import LOSS_EVERY_S, Newsdesk, grown

LOBBY = "camera:lobby"


def account(fleet: Fleet, name: str = LOBBY, **fields: Any) -> None:
    told = {"name": name, "phase": "running", "pid": 1, "started_at": 1.0, "facts": facts("lobby"), **fields}
    fleet.heed(Command.decode(Account(**told).encode()), wall=0.0)


def lost(fleet: Fleet, name: str = LOBBY, **reasons: int) -> None:
    meter = Meter()
    for reason, count in reasons.items():
        meter.reached("results_lost_total", count, reason=reason)
    fleet.heed(Command.decode(report_record(name, status(1, meter).encode())), wall=0.0)


def look(desk: Newsdesk, fleet: Fleet, now: float = 0.0) -> list[dict[str, Any]]:
    """What is told, without the ids, which differ."""
    told = desk.look(fleet, now)
    assert len({event["id"] for event in told}) == len(told)
    return [{key: value for key, value in event.items() if key != "id"} for event in told]


def test_a_restart_is_told_once_and_those_before_the_gateway_never() -> None:
    fleet, desk = Fleet(), Newsdesk("here")
    account(fleet, restarts={"sigkill": 3})
    assert look(desk, fleet) == []
    account(fleet, phase="waiting", pid=None, restarts={"sigkill": 3, "stuck": 1})
    assert look(desk, fleet) == [
        {
            "kind": "worker_restart",
            "site": "here",
            "worker": LOBBY,
            "camera": "lobby",
            "reason": "stuck",
            "restarts": 4,
        }
    ]
    account(fleet, pid=2, restarts={"sigkill": 3, "stuck": 1})
    assert look(desk, fleet) == []


def test_a_process_that_is_no_cameras_has_no_camera() -> None:
    fleet, desk = Fleet(), Newsdesk("here")
    account(fleet, "broker", facts={})
    look(desk, fleet)
    account(fleet, "broker", facts={}, restarts={"exit_1": 1})
    (told,) = look(desk, fleet)
    assert (told["worker"], told["camera"]) == ("broker", None)


def test_a_member_that_nobody_has_started_yet_has_no_history() -> None:
    fleet, desk = Fleet(), Newsdesk("here")
    account(fleet, phase="waiting", pid=None, started_at=None)
    assert look(desk, fleet) == []
    account(fleet, restarts={"sigkill": 2})
    assert look(desk, fleet) == [], "another hub's, whose record has only now been read"


def test_losses_are_told_at_once_and_then_in_sum() -> None:
    fleet, desk = Fleet(), Newsdesk("here")
    account(fleet)
    assert look(desk, fleet) == []
    lost(fleet, unreadable=5)
    assert look(desk, fleet, 2.0) == [], "these were lost before anybody looked"
    loss = {"kind": "loss", "site": "here", "camera": "lobby", "what": "results"}
    lost(fleet, unreadable=6)
    assert look(desk, fleet, 4.0) == [{**loss, "reason": "unreadable", "count": 1}]
    lost(fleet, unreadable=9, spool_full=2)
    assert look(desk, fleet, 6.0) == [{**loss, "reason": "spool_full", "count": 2}]
    lost(fleet, unreadable=10, spool_full=2)
    assert look(desk, fleet, 4.0 + LOSS_EVERY_S) == [{**loss, "reason": "unreadable", "count": 4}]
    assert look(desk, fleet, 100.0) == []


def test_losses_of_a_dead_process_are_told_too() -> None:
    fleet, desk = Fleet(), Newsdesk("here")
    account(fleet)
    lost(fleet, unreadable=1)
    look(desk, fleet)
    past = Meter()
    past.count("results_lost_total", by=3, reason="unreadable")
    account(fleet, phase="waiting", pid=None, past=past.snapshot())
    (told,) = look(desk, fleet, 20.0)
    assert told["count"] == 2


def test_what_came_by_callback_may_not_know_its_camera() -> None:
    fleet, desk = Fleet(), Newsdesk("here")
    account(fleet, "gateway", facts={})
    lost(fleet, "gateway")
    look(desk, fleet)
    lost(fleet, "gateway", redis_away=7)
    (told,) = look(desk, fleet)
    assert (told["camera"], told["reason"], told["count"]) == (None, "redis_away", 7)


def test_a_camera_that_comes_again_begins_anew() -> None:
    fleet, desk = Fleet(), Newsdesk("here")
    account(fleet)
    lost(fleet, unreadable=1)
    look(desk, fleet)
    fleet.heed(Command(verb=GONE, arguments={"name": LOBBY}), wall=0.0)
    look(desk, fleet)
    account(fleet, restarts={"sigkill": 1})
    lost(fleet, unreadable=4)
    assert look(desk, fleet) == []


def test_a_count_that_begins_anew_tells_nothing() -> None:
    assert grown({"a": 3, "b": 1}, {"a": 2, "b": 2, "c": 1}) == {"b": 1, "c": 1}
