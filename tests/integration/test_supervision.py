"""A real supervisor with real processes that are killed, freeze, hang or ignore signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil
import pytest

from nvision_hub.supervisor.process_state import SupervisorLimits
from nvision_hub.supervisor.supervisor import OBSERVER_INTERVAL_S
from tests.support.fleet import STOP_S, Fleet
from tests.support.patience import PATIENCE_S, is_on_time
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "rtsp://viewer:p@ss/w:rd@10.0.0.5/stream1"


def suspend(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def own_children(fleet: Fleet) -> list[psutil.Process]:
    return psutil.Process(fleet.process.pid).children()


def first_back(fleet: Fleet, name: str) -> float:
    """Return the time at which a child was first ready after its restart (CLOCK_MONOTONIC)."""
    lives = ((shown["own"]["at"], shown["members"][name]) for shown in fleet.shown)
    at: float = next(at for at, member in lives if member["restarts"] == 1 and member["ready"])
    return at


# Killed, frozen and hung children


@pytest.mark.fault
def test_a_killed_worker_restarts_within_two_seconds_and_affects_no_other(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(dict.fromkeys("abcd", "steady"))
    fleet.ready()
    before = {name: fleet.pid(name) for name in "abcd"}
    os.kill(fleet.ready_pid("b"), signal.SIGKILL)
    back_s = fleet.wait_for_replacement("b", before["b"] or 0)
    assert is_on_time(back_s, 2.0)
    assert {name: fleet.pid(name) for name in "acd"} == {name: before[name] for name in "acd"}
    assert fleet.members["b"]["restarts"] == 1
    assert any(re.fullmatch(r"b exited \(signal 9\); restarting in \d\.\d s", line) for line in fleet.lines("hub"))
    measured(
        1,
        "killed worker",
        injected="kill -9 of 1 of 4 minimal workers",
        target="restarted within 2 s; the other workers keep running",
        measured=f"ready {back_s:.1f} s later; the other workers' processes are unchanged",
    )


@pytest.mark.fault
@pytest.mark.parametrize(
    "heartbeat_timeout_s", [2.5, pytest.param(SupervisorLimits().heartbeat_timeout_s, marks=pytest.mark.long)]
)
def test_stuck_workers_are_killed_and_restarted_and_affect_no_other(
    start_fleet: Callable[..., Fleet], tmp_path: Path, heartbeat_timeout_s: float
) -> None:
    marker = {name: tmp_path / name for name in ("gil", "loop")}
    fleet = start_fleet(
        {
            "frozen": "steady",
            "gil": ("holds_the_gil", str(marker["gil"])),
            "loop": ("loop_stuck", str(marker["loop"])),
            "well": "steady",
        },
        heartbeat_timeout_s=heartbeat_timeout_s,
    )
    frozen, well = fleet.ready_pid("frozen"), fleet.ready_pid("well")
    suspend(frozen)
    stuck = {"frozen": "no report for ", "gil": "no report for ", "loop": "no event loop for "}
    fleet.wait_until(lambda: all(fleet.members[name]["restarts"] == 1 for name in stuck), heartbeat_timeout_s + 5)
    fleet.ready()
    hung = {name: file.stat().st_mtime - time.time() + time.monotonic() for name, file in marker.items()}
    back_s = {name: first_back(fleet, name) - hung[name] for name in hung}
    assert is_on_time(max(back_s.values()), heartbeat_timeout_s + 5)
    assert (fleet.members["well"]["restarts"], fleet.pid("well")) == (0, well)
    for name, reason in stuck.items():
        assert any(line.startswith(f"killing {name}: {reason}") for line in fleet.lines("hub"))
    assert not psutil.pid_exists(frozen)
    measured(
        5,
        "worker hangs",
        injected=f"sleeps in C holding the GIL, heartbeat_timeout_s={heartbeat_timeout_s:g}; "
        "blocks only its event loop, deadline 1 s",
        target="killed within 20 s, restarted within 25 s; the other workers keep running",
        measured=f"new worker ready after {back_s['gil']:.1f} s (GIL), {back_s['loop']:.1f} s (event loop)",
    )


def test_a_worker_that_exits_immediately_is_a_crash_loop_and_affects_no_other(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(
        {"a": ("ends", 3), "b": "steady", "c": "misconfigured", "d": "wrong"}, restart_first_s=0.05, restart_max_s=0.1
    )
    other = fleet.ready_pid("b")
    fleet.wait_until(lambda: fleet.members["a"]["crash_loop"] and fleet.members["c"]["phase"] == "ended")
    assert (fleet.members["a"]["phase"], fleet.members["a"]["restarts"]) == ("waiting", 5)
    assert fleet.lines("c") == ["cameras.yaml:3:5: this cannot be"]
    assert fleet.lines("d")[0] == "d failed: unexpected error"
    assert "RuntimeError: cannot open rtsp://***@10.0.0.5/stream1" in fleet.log()
    assert "p@ss" not in fleet.log()
    assert fleet.pid("b") == other


def test_floods_and_invalid_messages_do_not_block_the_supervisor(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": "floods", "b": "sends_invalid", "c": "steady"})
    fleet.ready()
    old = fleet.ready_pid("c")
    os.kill(old, signal.SIGKILL)
    fleet.wait_for_replacement("c", old)
    assert is_on_time(max(later["own"]["at"] - sooner["own"]["at"] for sooner, later in pairwise(fleet.shown)), 1.5)
    assert any(line.startswith("record from b ignored: not a message") for line in fleet.lines("hub"))


@pytest.mark.long
def test_a_grandchild_with_all_descriptors_hides_no_exit(start_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    marker = tmp_path / "grandchild"
    fleet = start_fleet({"a": ("leaves_a_grandchild", str(marker))}, heartbeat_timeout_s=2.0)
    old = fleet.ready_pid("a")
    os.kill(old, signal.SIGKILL)
    try:
        fleet.wait_for_replacement("a", old)
    finally:
        os.kill(int(marker.read_text(encoding="ascii")), signal.SIGKILL)
    assert is_on_time(fleet.stop_with(), STOP_S)


@pytest.mark.long
def test_a_resumed_supervisor_kills_no_child(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(dict.fromkeys("abcd", "steady"), heartbeat_timeout_s=1.8, suspend_gap_s=1.0)
    fleet.ready()
    before = {name: fleet.pid(name) for name in "abcd"}
    everyone = [fleet.process.pid, *(pid for pid in before.values() if pid is not None)]
    for pid in everyone:  # as Ctrl-Z does
        suspend(pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        fleet.process.wait(2.2)
    for pid in everyone:
        os.kill(pid, signal.SIGCONT)
    shown = len(fleet.shown)
    fleet.wait_until(lambda: len(fleet.shown) > shown + 3)
    assert {name: fleet.pid(name) for name in "abcd"} == before
    assert any(line.startswith("the supervisor was suspended for ") for line in fleet.lines("hub"))


# Killed supervisor


BROKER = ("broker", {"directory": "broker", "port": 0})


@pytest.mark.fault
def test_nothing_outlives_a_killed_supervisor(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"broker": BROKER, **dict.fromkeys("abc", ("steady", None, 1))})
    fleet.ready()
    running = fleet.processes()
    assert len(running) == 6, "expected the supervisor, the broker worker, Valkey and three workers"
    suspend(fleet.ready_pid("a"))
    fleet.process.kill()
    killed = time.monotonic()
    _, left = psutil.wait_procs(running, timeout=PATIENCE_S)
    assert not left
    assert is_on_time(time.monotonic() - killed, 3.0)
    measured(
        6,
        "killed supervisor",
        injected="kill -9, with the broker and three workers, one of them stopped",
        target="no orphan after 3 s",
        measured=f"all {len(running)} processes gone after {time.monotonic() - killed:.1f} s",
    )


@pytest.mark.long
@pytest.mark.fault
def test_nothing_outlives_a_supervisor_that_is_killed_while_it_starts(
    start_fleet: Callable[..., Fleet],
) -> None:
    kills = 30

    def kill_after(seconds: float) -> float:
        fleet = start_fleet({"broker": BROKER, **dict.fromkeys("abc", "steady")})
        with contextlib.suppress(subprocess.TimeoutExpired):
            fleet.process.wait(seconds)
        fleet.kill()
        killed = time.monotonic()
        fleet.wait_until_gone(3.0)
        return time.monotonic() - killed

    with ThreadPoolExecutor(4) as at_once:
        gone_s = list(at_once.map(kill_after, [0.005 + 0.195 * number / (kills - 1) for number in range(kills)]))
    measured(
        6,
        "killed supervisor, during its start",
        injected=f"{kills} times kill -9, 5 to 200 ms after the first fork",
        target="no orphan after 3 s",
        measured=f"no process left after at most {max(gone_s):.1f} s",
    )


# Stopping


def test_a_stop_drains_each_child_in_order(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"c": ("slow_to_drain", 0.5, 2), "b": ("slow_to_drain", 0.3, 1), "a": ("slow_to_drain", 0.1)})
    fleet.ready()
    assert is_on_time(fleet.stop_with(signal.SIGINT), 5.0)
    drained = [line.split()[2] for line in fleet.log().splitlines() if line.endswith("  drained")]
    assert drained == ["c", "b", "a"]
    assert "killing " not in fleet.log()
    fleet.wait_until_gone(1.0)


def test_ctrl_c_to_the_process_group_keeps_the_stop_order(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": ("slow_to_drain", 0.1, 1), "b": "steady"})
    fleet.ready()
    os.killpg(fleet.process.pid, signal.SIGINT)
    assert fleet.process.wait(PATIENCE_S) == 0
    assert fleet.lines("a") == ["drained"]
    assert fleet.lines("hub") == ["stopping (SIGINT); press Ctrl-C again to stop immediately"]
    fleet.wait_until_gone(1.0)


@pytest.mark.long
@pytest.mark.fault
def test_a_stop_with_a_frozen_worker_and_one_that_ignores_signals_is_on_time(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(
        {"frozen": ("steady", None, 1), "deaf": ("ignores_stop", None, 1), "well": ("slow_to_drain", 0.1)}
    )
    fleet.ready()
    suspend(fleet.ready_pid("frozen"))
    took_s = fleet.stop_with()
    assert is_on_time(took_s, STOP_S)
    assert fleet.lines("well") == ["drained"]
    assert {line for line in fleet.lines("hub") if line.startswith("killing ")} == {
        f"killing {name}: it ignored the request to stop" for name in ("frozen", "deaf")
    }
    fleet.wait_until_gone(1.0)
    measured(
        7,
        "stop with a worker that ignores signals",
        injected="SIGTERM with one worker stopped by SIGSTOP and one that ignores every signal that it can ignore",
        target="exit within 10 s",
        measured=f"{took_s:.1f} s; the healthy worker drained",
    )


def test_a_second_signal_shortens_the_stop(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": "ignores_stop"})
    fleet.ready()
    fleet.process.send_signal(signal.SIGTERM)
    fleet.wait_until(lambda: fleet.members["a"]["phase"] == "draining")
    assert is_on_time(fleet.stop_with(), 3.0)


# Inheritance from the supervisor


def test_a_child_has_only_its_own_descriptors(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": "steady", "b": "steady", "c": ("descriptors", None, 1), "d": ("descriptors", None, 1)})
    fleet.ready()
    for name in "cd":
        found: dict[str, str] = json.loads(fleet.members[name]["status"]["error"])
        kinds = sorted(re.sub(r":.*", "", target) for number, target in found.items() if int(number) > 2)
        # The status pipe (a socket), the log pipe, and those of multiprocessing: standard input, and two exit pipes.
        assert kinds == ["/dev/null", "pipe", "pipe", "pipe", "socket"], found


def test_records_arrive_with_their_processs_name_and_without_secrets(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"camera:lobby": ("logs_secrets", SECRET)})
    fleet.ready()
    fleet.stop_with()
    said = fleet.lines("camera:lobby")
    shown = "rtsp://***@10.0.0.5/stream1"
    assert said == [
        f"opening {shown}",
        "failed",
        "thread capture failed: unexpected error",
        f"closed by {shown}",
        shown,
    ]
    assert fleet.log().count(f"OSError: {shown}") == 2
    assert "a library's own words" in fleet.log()
    for part in ("viewer", "p@ss", "w:rd"):
        assert part not in fleet.log()


# Endurance


@pytest.mark.fault
@pytest.mark.parametrize("wanted", [60, pytest.param(300, marks=pytest.mark.long)])
def test_kills_under_log_load_block_and_lose_nothing(start_fleet: Callable[..., Fleet], wanted: int) -> None:
    fleet = start_fleet(
        {"anchor": "logs_numbers", **dict.fromkeys("abc", "logs_numbers")},
        restart_first_s=0.02,
        restart_max_s=0.04,
        crash_loop_exits=10**6,
    )
    fleet.ready()
    anchor = fleet.ready_pid("anchor")
    kills, silence_s = 0, 0.0
    last_record_at = time.monotonic()
    with fleet.log_file.open(encoding="utf-8") as log:
        while kills < wanted:
            for child in own_children(fleet):
                if child.pid != anchor:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
                        kills += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                fleet.process.wait(0.05)
            silence_s = max(silence_s, time.monotonic() - last_record_at)
            if any(" anchor  number " in line for line in log.readlines()):
                last_record_at = time.monotonic()
            assert is_on_time(silence_s, 1.0), "a surviving worker's log has stopped"
    settled = len(fleet.shown)
    fleet.wait_until(lambda: len(fleet.shown) > settled + 2 and all(m["ready"] for m in fleet.members.values()))
    assert fleet.pid("anchor") == anchor
    numbers = [int(line.split()[1]) for line in fleet.lines("anchor")]
    assert numbers == list(range(1, len(numbers) + 1)), "all records of the surviving worker arrived in order"
    showings = fleet.shown[2:]
    gaps = [later["own"]["at"] - sooner["own"]["at"] for sooner, later in pairwise(showings)]
    assert is_on_time(max(gaps), OBSERVER_INTERVAL_S + 1.0), "the supervisor must not block for a second"
    first, last = next(s for s in fleet.shown if all(m["ready"] for m in s["members"].values())), fleet.shown[-1]
    assert last["own"]["threads"] == first["own"]["threads"]
    assert abs(last["own"]["descriptors"] - first["own"]["descriptors"]) <= 3
    assert all(child.status() != psutil.STATUS_ZOMBIE for child in own_children(fleet))
    assert is_on_time(fleet.stop_with(), STOP_S)
    assert "Traceback" not in fleet.log()
    used = [f"{shown['own']['descriptors']} descriptors, {shown['own']['threads']} threads" for shown in (first, last)]
    measured(
        10,
        "workers killed while they log and send status reports",
        injected=f"{kills} times kill -9, each worker logging 100 lines/s",
        target="supervisor never blocked for more than 1 s; the surviving workers' logs keep arriving",
        measured=f"supervisor blocked for at most {max(0.0, max(gaps) - OBSERVER_INTERVAL_S):.2f} s; "
        f"the survivor's log paused for at most {silence_s:.2f} s, none of its {len(numbers)} records lost; "
        f"{used[0]} before, {used[1]} after",
    )
