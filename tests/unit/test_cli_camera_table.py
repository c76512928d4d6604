"""The live table: rows for each history of a process, at several widths and heights."""

from __future__ import annotations

import errno
import logging
import os
import termios
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.text import Text

from nvision_hub.cli.camera_table import camera_rows, process_rows, table_lines
from nvision_hub.cli.live_table import MAX_QUEUED_RECORDS, LiveTable, TerminalLog
from nvision_hub.cli.terminal import format_duration, format_names, plural
from nvision_hub.control_characters import printable
from nvision_hub.runtime.process import ProcessSpec
from nvision_hub.runtime.status import CameraInfo, CameraState, Status
from nvision_hub.supervisor.process_state import Phase, ProcessState

if TYPE_CHECKING:
    from nvision_hub.cli.camera_table import TableRow
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

NOW = 1000.0
WALL = 1_800_000_000.0
PID = 4711


def never(_settings: Any, _pipe: SupervisorPipe) -> None:
    """Entry point for a process that no test starts."""


def process(name: str = "camera:lobby") -> ProcessState:
    return ProcessState(spec=ProcessSpec(name=name, stage=2, entry=never, settings=None))


def status(state: str = "streaming", *, pid: int = PID, error: str | None = None, **info: Any) -> Status:
    values: dict[str, Any] = {
        "rate_in": 25.0,
        "rate_out": 5.0,
        "dropped": 3.0,
        "sent": 100.0,
        "seen": ["car", "person", "person"],
        "last_result_at": WALL - 1,
        "last_frame_at": WALL - 0.75,
    }
    return Status(
        pid=pid, at=NOW - 0.5, state=state, ready=state == "streaming", error=error, info=CameraInfo(**values | info)
    )


def running(name: str = "camera:lobby", **values: Any) -> ProcessState:
    one = process(name)
    one.on_start(PID, NOW - 10)
    one.on_status(status(**values), NOW - 0.5)
    return one


def row(one: ProcessState) -> TableRow:
    (only,) = camera_rows([one], now=NOW, wall=WALL)
    return only


def texts(
    rows: list[TableRow], processes: list[TableRow] | None = None, *, width: int = 80, height: int = 24
) -> list[str]:
    return [line.plain for line in table_lines(rows, processes or [], width=width, height=height)]


def test_the_effect_of_a_schedule_is_below_the_camera() -> None:
    lines = texts([row(running(scheduled="0.5/s until 06:00"))])
    assert lines[2] == "  scheduled: 0.5/s until 06:00"


def test_the_profile_of_an_onvif_camera_is_shown_if_there_is_room() -> None:
    rows = [row(running(profile="Sub (h264, 640x360, 15 fps)")), row(running("camera:yard"))]
    assert texts(rows)[2] == "  profile: Sub (h264, 640x360, 15 fps)"
    assert [line.split()[0] for line in texts(rows, height=3)] == ["camera", "lobby", "yard"]


def test_a_streaming_camera_shows_rates_counts_age_and_detections() -> None:
    shown = row(running())
    assert shown.state == "streaming"
    assert (shown.info.rate_in, shown.info.rate_out, shown.info.dropped, shown.info.sent) == (25.0, 5.0, 3, 100)
    assert shown.age_s == pytest.approx(0.25)  # age at the time of the report, half a second ago
    assert shown.seen == "2 person, car"
    assert shown.is_healthy


def test_the_age_grows_without_reports() -> None:
    one = running()
    (shown,) = camera_rows([one], now=NOW + 5, wall=WALL + 5)
    assert shown.age_s == pytest.approx(5.75)


def test_a_camera_is_starting_until_its_first_report() -> None:
    shown = row(process())
    assert (shown.state, shown.info.rate_in, shown.age_s, shown.error) == ("starting", None, None, None)
    one = process()
    one.on_start(PID, NOW)
    assert row(one).state == "starting"


def test_a_restarted_camera_shows_no_values_of_its_last_process() -> None:
    one = running()
    one.on_exit(-9, NOW, wanted=True)
    shown = row(one)
    assert (shown.state, shown.info.rate_in) == ("starting", None)
    assert shown.error is not None
    assert "its process exited; restarting in " in shown.error
    one.on_start(PID + 1, NOW + 1)
    assert row(one).error is None
    assert row(one).info.rate_in is None


def test_a_crash_loop_is_shown_as_unhealthy_with_its_reason() -> None:
    one = process()
    for _ in range(5):
        one.on_start(PID, NOW)
        one.on_exit(1, NOW, wanted=True)
    shown = row(one)
    assert shown.state == "crash_loop"
    assert shown.error is not None
    assert "keeps exiting" in shown.error
    assert not shown.is_healthy


def test_an_ended_process_shows_its_last_state_or_its_error() -> None:
    one = running(state="stopped")
    one.enter(Phase.DRAINING, NOW)
    one.on_exit(0, NOW, wanted=False)
    assert row(one).state == "stopped"
    assert row(one).info.sent == 100
    no_room = process()
    no_room.on_start_failed(OSError(errno.EMFILE, "Too many open files"), NOW)
    assert "could not start; restarting in " in (row(no_room).error or "")
    wrong = process()
    wrong.on_start(PID, NOW)
    wrong.on_exit(78, NOW, wanted=True)
    assert row(wrong).state == "stopped"


def test_an_old_result_shows_its_age() -> None:
    assert row(running(last_result_at=WALL - 200, seen=["car"])).seen == "car (3 min ago)"
    assert row(running(seen=[])).seen == "nothing"
    assert row(running(seen=[], last_result_at=None, last_frame_at=None)).seen == ""


def test_other_processes_are_shown_only_while_they_are_unhealthy() -> None:
    broker = running("broker")
    assert process_rows([broker, running()], now=NOW) == []
    broker.on_exit(1, NOW, wanted=True)
    (other,) = process_rows([broker, running()], now=NOW)
    assert other.name == "broker"
    assert "restarting in" in (other.error or "")
    service = running("service", state="starting", error="OpenCV cannot be loaded")
    assert texts([], process_rows([service], now=NOW))[1:] == ["service: starting", "  OpenCV cannot be loaded"]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_every_line_fits_the_width(width: int) -> None:
    long_id = "north-gate-" * 5
    error = "rtsp://***@10.0.0.5/stream1 refused the user name or password; correct `username` and `password` " * 2
    rows = [
        row(running()),
        row(running(f"camera:{long_id}", state="auth_failed", error=error, seen=["a-very-long-name"] * 30)),
        row(process("camera:x")),
    ]
    shown = texts(rows, width=width)
    assert max(map(len, shown)) <= width
    assert " ".join(" ".join(shown).split()).count("refused the user name or password") == 2  # not shortened
    assert (long_id[:28] in shown[2]) == (width == 140)


@pytest.mark.parametrize("state", CameraState)
def test_every_state_fits_its_column(state: str) -> None:
    heading, line = texts([row(running(state=state))])[:2]
    assert line[heading.index("state") :].startswith(f"{state} ")
    assert line[: heading.index("in/s")].rstrip() == f"lobby   {state}"


def test_a_low_terminal_shows_errors_first_and_counts_the_hidden_cameras() -> None:
    rows = [row(running(f"camera:c{number}")) for number in range(100)]
    rows[70] = row(running("camera:bad", state="not_found", error="it does not exist there"))
    shown = texts(rows, height=10)
    assert len(shown) == 10
    assert shown[1].startswith("bad")
    assert shown[2] == "  it does not exist there"
    assert shown[-1].startswith("... and 93 more, all streaming")
    rows = [row(running(f"camera:c{number}", state="stalled")) for number in range(100)]
    assert "95 of them not streaming" in texts(rows, height=7)[-1]
    assert len(texts(rows, process_rows([process("broker")], now=NOW), height=7)) == 7


def test_control_characters_in_texts_are_replaced() -> None:
    shown = row(running(seen=["\x1b[2Jcar"], error="a\x1b]0;title\x07b", state="stal\x1bled"))
    assert shown.seen == "?[2Jcar"
    assert "\x1b" not in (shown.error or "") + shown.state


def test_values_are_formatted_for_people() -> None:
    assert [format_duration(value) for value in (-1, 0.24, 9.94, 9.96, 119, 120, 7_200, 200_000)] == [
        "0.0 s", "0.2 s", "9.9 s", "10 s", "119 s", "2 min", "2 h", "2 d",
    ]  # fmt: skip
    assert format_names(["car", "person", "person"]) == "2 person, car"
    assert printable("é ok\x00") == "é ok?"
    assert [plural(count, "delivery") for count in (0, 1, 2)] == ["0 deliveries", "1 delivery", "2 deliveries"]


def test_a_stopped_terminal_blocks_no_caller() -> None:
    log = TerminalLog()
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal:
        console = Console(file=terminal, force_terminal=True, width=80, height=20, color_system=None)
        live = LiveTable(console, log, [Text("head")])
        termios.tcflow(slave, termios.TCOOFF)  # stop the output, like Ctrl-S
        for number in range(MAX_QUEUED_RECORDS + 5):
            log.handle(logging.makeLogRecord({"msg": f"rtsp://u:secret@cam/ said {number}", "levelno": 30}))
        live.show([running()])  # this call must not write, because a write would block forever
        termios.tcflow(slave, termios.TCOON)
    os.close(master)
    assert live.rows[0].name == "lobby"  # updated, but not drawn
    lines = [line.plain for line in log.pop_all()]
    assert len(lines) == MAX_QUEUED_RECORDS  # the oldest records were dropped
    assert lines[-1].endswith(f"rtsp://***@cam/ said {MAX_QUEUED_RECORDS + 4}")
    assert "secret" not in "".join(lines)


def test_the_table_is_drawn_below_the_log() -> None:
    log = TerminalLog()
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal:
        console = Console(file=terminal, force_terminal=True, width=80, height=20, color_system=None)
        with LiveTable(console, log, [Text("head")]) as live:
            log.handle(logging.makeLogRecord({"msg": "a line", "levelno": 30}))
            live.show([running()])
            shown = ""
            while "lobby" not in shown:
                shown += os.read(master, 65536).decode()
    os.close(master)
    assert shown.index("a line") < shown.index("head") < shown.index("lobby")
