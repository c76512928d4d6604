"""The live table: every history that a member can have, in every width and height."""

from __future__ import annotations

import errno
import logging
import os
import termios
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.text import Text

from nvision_hub.child import ChildSpec
from nvision_hub.cli import fleet, table
from nvision_hub.cli.live import LINES_WAITING_MAX, LiveTable, TerminalLog
from nvision_hub.cli.terminal import ago, counted, harmless
from nvision_hub.status import CameraState, Status
from nvision_hub.supervisor import Member, Phase

if TYPE_CHECKING:
    from nvision_hub.cli.fleet import Row
    from nvision_hub.link import Link

NOW = 1000.0
WALL = 1_800_000_000.0
PID = 4711


def never(_settings: Any, _link: Link) -> None:
    """No test here starts it."""


def member(name: str = "camera:lobby") -> Member:
    return Member(spec=ChildSpec(name=name, stage=2, entry=never, settings=None))


def status(state: str = "streaming", *, pid: int = PID, error: str | None = None, **row: Any) -> Status:
    values = {
        "rate_in": 25.0,
        "rate_out": 5.0,
        "dropped": 3.0,
        "sent": 100.0,
        "seen": ["car", "person", "person"],
        "last_result_at": WALL - 1,
        "last_frame_at": WALL - 0.75,
    }
    return Status(pid=pid, at=NOW - 0.5, state=state, ready=state == "streaming", error=error, row=values | row)


def running(name: str = "camera:lobby", **values: Any) -> Member:
    one = member(name)
    one.started(PID, NOW - 10)
    one.reported(status(**values), NOW - 0.5)
    return one


def row(one: Member) -> Row:
    (only,) = fleet.rows([one], now=NOW, wall=WALL)
    return only


def texts(rows: list[Row], peers: list[fleet.Peer] | None = None, *, width: int = 80, height: int = 24) -> list[str]:
    return [line.plain for line in table.lines(rows, peers or [], width=width, height=height)]


def test_a_camera_that_streams() -> None:
    shown = row(running())
    assert (shown.state, shown.rate_in, shown.rate_out, shown.dropped, shown.sent) == ("streaming", 25.0, 5.0, 3, 100)
    assert shown.age_s == pytest.approx(0.25)  # as it was at the report, half a second ago
    assert shown.seen == "2 person, car"
    assert shown.well


def test_the_age_goes_on_where_reports_stay_out() -> None:
    one = running()
    (shown,) = fleet.rows([one], now=NOW + 5, wall=WALL + 5)
    assert shown.age_s == pytest.approx(5.75)


def test_a_camera_that_has_not_reported_yet() -> None:
    shown = row(member())
    assert (shown.state, shown.rate_in, shown.age_s, shown.trouble) == ("starting", None, None, None)
    one = member()
    one.started(PID, NOW)
    assert row(one).state == "starting"


def test_a_camera_that_was_started_again_shows_nothing_of_its_predecessor() -> None:
    one = running()
    one.exited(-9, NOW, wanted=True)
    shown = row(one)
    assert (shown.state, shown.rate_in) == ("starting", None)
    assert shown.trouble is not None
    assert "its process has ended; tried again in " in shown.trouble
    one.started(PID + 1, NOW + 1)
    assert row(one).trouble is None
    assert row(one).rate_in is None


def test_a_crash_loop() -> None:
    one = member()
    for _ in range(5):
        one.started(PID, NOW)
        one.exited(1, NOW, wanted=True)
    shown = row(one)
    assert shown.state == "crash_loop"
    assert shown.trouble is not None
    assert "keeps ending" in shown.trouble
    assert not shown.well


def test_a_camera_that_ended() -> None:
    one = running(state="stopped")
    one.enter(Phase.DRAINING, NOW)
    one.exited(0, NOW, wanted=False)
    assert row(one).state == "stopped"
    assert row(one).sent == 100
    no_room = member()
    no_room.put_off(OSError(errno.EMFILE, "Too many open files"), NOW)
    assert "could not be started; tried again in " in (row(no_room).trouble or "")
    wrong = member()
    wrong.started(PID, NOW)
    wrong.exited(78, NOW, wanted=True)
    assert row(wrong).state == "stopped"


def test_an_old_result_tells_its_age() -> None:
    assert row(running(last_result_at=WALL - 200, seen=["car"])).seen == "car (3 min ago)"
    assert row(running(seen=[])).seen == "nothing"
    assert row(running(seen=[], last_result_at=None, last_frame_at=None)).seen == ""


def test_other_children_are_told_of_only_while_they_are_not_well() -> None:
    broker = running("broker")
    assert fleet.peers([broker, running()], now=NOW) == []
    broker.exited(1, NOW, wanted=True)
    (peer,) = fleet.peers([broker, running()], now=NOW)
    assert peer.name == "broker"
    assert "tried again" in (peer.trouble or "")
    service = running("service", state="starting", error="OpenCV cannot be loaded")
    assert texts([], fleet.peers([service], now=NOW))[1:] == ["service: starting", "  OpenCV cannot be loaded"]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_every_line_fits(width: int) -> None:
    long_id = "north-gate-" * 5
    error = "rtsp://***@10.0.0.5/stream1 refused the user name or password; correct `username` and `password` " * 2
    rows = [
        row(running()),
        row(running(f"camera:{long_id}", state="auth_failed", error=error, seen=["a-very-long-name"] * 30)),
        row(member("camera:x")),
    ]
    shown = texts(rows, width=width)
    assert max(map(len, shown)) <= width
    assert " ".join(" ".join(shown).split()).count("refused the user name or password") == 2  # in full words
    assert (long_id[:28] in shown[2]) == (width == 140)


@pytest.mark.parametrize("state", CameraState)
def test_every_state_has_its_place(state: str) -> None:
    heading, line = texts([row(running(state=state))])[:2]
    assert line[heading.index("state") :].startswith(f"{state} ")
    assert line[: heading.index("in/s")].rstrip() == f"lobby   {state}"


def test_a_low_terminal_shows_trouble_first_and_tells_what_is_left_out() -> None:
    rows = [row(running(f"camera:c{number}")) for number in range(100)]
    rows[70] = row(running("camera:bad", state="not_found", error="it does not exist there"))
    shown = texts(rows, height=10)
    assert len(shown) == 10
    assert shown[1].startswith("bad")
    assert shown[2] == "  it does not exist there"
    assert shown[-1].startswith("... and 93 more, all streaming")
    rows = [row(running(f"camera:c{number}", state="stalled")) for number in range(100)]
    assert "95 of them not streaming" in texts(rows, height=7)[-1]
    assert len(texts(rows, fleet.peers([member("broker")], now=NOW), height=7)) == 7


def test_names_from_elsewhere_do_not_move_the_cursor() -> None:
    shown = row(running(seen=["\x1b[2Jcar"], error="a\x1b]0;title\x07b", state="stal\x1bled"))
    assert shown.seen == "?[2Jcar"
    assert "\x1b" not in (shown.trouble or "") + shown.state


def test_small_words() -> None:
    assert [ago(value) for value in (-1, 0.24, 9.94, 9.96, 119, 120, 7_200, 200_000)] == [
        "0.0 s", "0.2 s", "9.9 s", "10 s", "119 s", "2 min", "2 h", "2 d",
    ]  # fmt: skip
    assert counted(["car", "person", "person"]) == "2 person, car"
    assert harmless("é ok\x00") == "é ok?"


def test_a_terminal_that_is_held_keeps_nobody_waiting() -> None:
    waiting = TerminalLog()
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal:
        console = Console(file=terminal, force_terminal=True, width=80, height=20, color_system=None)
        live = LiveTable(console, waiting, [Text("head")])
        termios.tcflow(slave, termios.TCOOFF)  # Ctrl-S
        for number in range(LINES_WAITING_MAX + 5):
            waiting.handle(logging.makeLogRecord({"msg": f"rtsp://u:secret@cam/ said {number}", "levelno": 30}))
        live.show([running()])  # would wait for ever here if it wrote
        termios.tcflow(slave, termios.TCOON)
    os.close(master)
    assert live.rows[0].camera == "lobby"  # known, though not drawn
    lines = [line.plain for line in waiting.take()]
    assert len(lines) == LINES_WAITING_MAX  # the oldest have made room
    assert lines[-1].endswith(f"rtsp://***@cam/ said {LINES_WAITING_MAX + 4}")
    assert "secret" not in "".join(lines)


def test_the_table_is_drawn_below_the_log() -> None:
    waiting = TerminalLog()
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal:
        console = Console(file=terminal, force_terminal=True, width=80, height=20, color_system=None)
        with LiveTable(console, waiting, [Text("head")]) as live:
            waiting.handle(logging.makeLogRecord({"msg": "a line", "levelno": 30}))
            live.show([running()])
            shown = ""
            while "lobby" not in shown:
                shown += os.read(master, 65536).decode()
    os.close(master)
    assert shown.index("a line") < shown.index("head") < shown.index("lobby")
