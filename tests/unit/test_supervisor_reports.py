"""What the supervisor's policy reports to subscribers and to the log."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest

from nvision_hub.errors import EXIT_CONFIG, EXIT_FAILED
from nvision_hub.metrics.snapshot import MetricSnapshot
from nvision_hub.runtime.messages import CameraFacts, ProcessInfo
from nvision_hub.runtime.process import ProcessSpec
from nvision_hub.runtime.status import Status
from nvision_hub.supervisor.policy import Action
from nvision_hub.supervisor.process_state import Phase, ProcessState
from tests.support.supervisor_replay import NO_MEMORY, SIGKILL, Replay, nothing


def test_process_info_shows_the_current_process_and_its_history() -> None:
    facts = CameraFacts(index=2)
    member = ProcessState(spec=ProcessSpec(name="camera:lobby", stage=1, entry=nothing, settings=None, facts=facts))
    member.due = 1010.0
    assert member.info(1000.0) == ProcessInfo(name="camera:lobby", phase="waiting", due_in_s=10.0, facts=facts)
    assert member.info(1020.0).due_in_s == 0.0
    member.on_start(7, 1020.0)
    running = ProcessInfo(name="camera:lobby", phase="running", pid=7, started_at=1020.0, facts=facts)
    assert member.info(1021.0) == running
    member.past = MetricSnapshot(counters={("frames_sent_total", ()): 5.0})
    member.restart_reasons["sigkill"] = 2
    member.crash_loop = True
    shown = member.info(1021.0)
    assert shown == replace(running, past=member.past, restarts={"sigkill": 2}, crash_loop=True)
    member.restart_reasons["sigkill"] = 3
    assert shown.restarts == {"sigkill": 2}, "sent information must not change later"


def test_a_long_run_reports_the_end_of_a_crash_loop() -> None:
    fleet = Replay(0)
    fleet.crash_after("m0", 1.0, 5)
    assert fleet["m0"].info(fleet.now).crash_loop is True
    fleet.reporting = {"m0"}
    fleet.turn(100)
    fleet.turn()
    version = fleet["m0"].info_version
    for _ in range(400):
        fleet.turn()
    assert fleet["m0"].info(fleet.now).crash_loop is False
    assert fleet["m0"].info_version != version, "subscribers see the change"


def test_each_failed_start_changes_the_version_of_process_info() -> None:
    fleet = Replay(0)
    versions = []
    for _ in range(3):
        fleet["m0"].on_start_failed(NO_MEMORY, fleet.now)
        versions.append(fleet["m0"].info_version)
        fleet.now = fleet["m0"].due
    assert len(set(versions)) == 3


def test_a_change_of_phase_within_one_moment_changes_the_version_of_process_info() -> None:
    member, versions = Replay(0)["m0"], set[object]()
    member.on_start(1, 0.0)
    for phase in (Phase.RUNNING, Phase.DRAINING, Phase.TERMINATING, Phase.KILLED):
        member.enter(phase, 0.0)
        versions.add(member.info_version)
    assert len(versions) == 4


def with_metrics(pid: int, frames: float) -> Status:
    metrics = MetricSnapshot(counters={("frames_sent_total", ()): frames}, gauges={("queue_length", ()): 9.0})
    return Status(pid=pid, at=0.0, state="running", metrics=metrics)


def test_counters_of_ended_processes_are_summed_and_their_gauges_are_dropped() -> None:
    member = Replay(0)["m0"]
    for pid, frames in ((1, 10.0), (2, 5.0)):
        member.on_start(pid, 0.0)
        member.on_status(with_metrics(pid, frames - 1), 1.0)
        member.on_status(with_metrics(pid, frames), 2.0)
        member.on_exit(EXIT_FAILED, 3.0, wanted=True)
    total = MetricSnapshot(counters={("frames_sent_total", ()): 15.0})
    assert member.past == total
    member.on_start(3, 4.0)
    member.on_exit(EXIT_FAILED, 5.0, wanted=True)
    assert member.past == total, "a process that never reported adds nothing"


@pytest.mark.parametrize(("started", "reasons"), [(True, {"exit_1": 1, "changed": 2}), (False, {"changed": 1})])
def test_a_successor_continues_the_counters_and_counts_the_change(*, started: bool, reasons: dict[str, int]) -> None:
    first = Replay(0)["m0"]
    first.restart_reasons["changed"] = 1
    if started:
        first.on_start(1, 0.0)
        first.on_status(with_metrics(1, 10.0), 1.0)
        first.on_exit(EXIT_FAILED, 2.0, wanted=True)
    second = Replay(0)["m0"]
    second.inherit(first, "changed")
    assert second.restarts == int(started)
    assert second.restart_reasons == reasons
    assert second.past == first.past


@pytest.mark.parametrize(
    ("code", "label", "cause"),
    [
        (0, "exit_0", "exit code 0"),
        (EXIT_FAILED, "exit_1", "exit code 1"),
        (-1, "sighup", "signal 1"),
        (SIGKILL, "sigkill", "signal 9"),
        (-40, "signal_40", "signal 40"),
    ],
)
def test_an_exit_is_counted_and_logged_with_its_cause(
    caplog: pytest.LogCaptureFixture, code: int, label: str, cause: str
) -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.exit("m0", code)
    assert fleet["m0"].restart_reasons == {label: 1}
    (record,) = caplog.records
    assert vars(record)["event"] == "process_exited"
    assert record.getMessage() == f"m0 exited ({cause}); restarting in {fleet['m0'].due - fleet.now:.1f} s"


def test_a_watchdog_kill_is_counted_as_stuck_and_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.carry_out(Action("m0", Phase.KILLED, "no capture for 10 s"))
    fleet.exit("m0", SIGKILL)
    assert fleet["m0"].restart_reasons == {"stuck": 1}
    assert "m0 exited (no capture for 10 s)" in caplog.text
    fleet.until(lambda: fleet["m0"].phase is Phase.RUNNING, 2)
    fleet.exit("m0", SIGKILL)
    assert fleet["m0"].restart_reasons == {"stuck": 1, "sigkill": 1}, "the reason belongs to one process"


def test_the_rate_limit_of_the_log_holds_back_no_exit(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Replay(0, 0)
    fleet.crash_after("m1", 0.0, 1)
    fleet.crash_after("m0", 0.0, 6)
    records = [record for record in caplog.records if record.getMessage().startswith("m0")]
    assert len({vars(record)["fault"] for record in caplog.records}) == len(caplog.records) >= 7
    assert ["exit code 1; crash loop)" in record.getMessage() for record in records] == [False] * 4 + [True] * 2


def test_a_process_with_an_invalid_configuration_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Replay(0)
    fleet.turn()
    fleet.exit("m0", EXIT_CONFIG)
    (record,) = caplog.records
    assert vars(record)["event"] == "process_misconfigured"
    assert record.getMessage().startswith("m0 exited: its configuration is invalid")


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.EMFILE, "LimitNOFILE="),
        (errno.ENFILE, "sysctl fs.file-max"),
        (errno.EAGAIN, "TasksMax="),
        (errno.ENOMEM, "more memory"),
        (errno.EPERM, "fix this error, or run fewer cameras"),
    ],
)
def test_a_failed_fork_is_logged_with_its_cause_and_fix(
    caplog: pytest.LogCaptureFixture, number: int, fix: str
) -> None:
    fleet = Replay(0)
    fleet["m0"].on_start_failed(OSError(number, "in any language"), fleet.now)
    (record,) = caplog.records
    assert vars(record)["event"] == "process_start_failed"
    message = record.getMessage()
    assert message.startswith(f"m0 could not start: {os.strerror(number)}; ")
    assert fix in message
    assert message.endswith(f"; retrying in {fleet['m0'].due - fleet.now:.1f} s")


def test_one_fault_of_the_machine_is_one_fault_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Replay(0, 0)
    fleet["m0"].on_start_failed(NO_MEMORY, fleet.now)
    fleet["m1"].on_start_failed(NO_MEMORY, fleet.now)
    fleet["m1"].on_start_failed(OSError(), fleet.now)
    first, second, other = (vars(record)["fault"] for record in caplog.records)
    assert first == second != other
