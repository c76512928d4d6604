"""A real supervisor over real processes, which are killed, frozen, hung and disobedient."""

from __future__ import annotations

import contextlib
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

from nvision_hub.supervisor import Limits
from nvision_hub.supervisor.loop import SHOWN_EVERY_S
from tests.support.fleet import STOP_S, Fleet
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
    """When a member was first shown ready in its second life (CLOCK_MONOTONIC)."""
    lives = ((shown["own"]["at"], shown["members"][name]) for shown in fleet.shown)
    at: float = next(at for at, member in lives if member["restarts"] == 1 and member["ready"])
    return at


# Death, freezing and hanging


@pytest.mark.fault
def test_a_killed_worker_is_back_within_two_seconds_and_the_others_are_untouched(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(dict.fromkeys("abcd", "steady"))
    fleet.ready()
    before = {name: fleet.pid(name) for name in "abcd"}
    os.kill(fleet.ready_pid("b"), signal.SIGKILL)
    back_s = fleet.replaced("b", before["b"] or 0)
    assert back_s < 2.0
    assert {name: fleet.pid(name) for name in "acd"} == {name: before[name] for name in "acd"}
    assert fleet.members["b"]["restarts"] == 1
    assert any(re.fullmatch(r"b ended \(signal 9\); started again in \d\.\d s", line) for line in fleet.lines("hub"))
    measured(
        1,
        "worker dies",
        injected="kill -9 of 1 of 4 small ones",
        target="back within 2 s; the others untouched",
        measured=f"seen ready {back_s:.1f} s later; the others' processes are the same",
    )


@pytest.mark.fault
@pytest.mark.parametrize("silent_after_s", [2.5, pytest.param(Limits().silent_after_s, marks=pytest.mark.long)])
def test_stuck_workers_are_killed_and_replaced_and_the_others_are_untouched(
    start_fleet: Callable[..., Fleet], tmp_path: Path, silent_after_s: float
) -> None:
    marker = {name: tmp_path / name for name in ("gil", "loop")}
    fleet = start_fleet(
        {
            "frozen": "steady",
            "gil": ("holds_the_gil", str(marker["gil"])),
            "loop": ("loop_stuck", str(marker["loop"])),
            "well": "steady",
        },
        silent_after_s=silent_after_s,
    )
    frozen, well = fleet.ready_pid("frozen"), fleet.ready_pid("well")
    suspend(frozen)
    stuck = {"frozen": "no report for ", "gil": "no report for ", "loop": "no event loop for "}
    fleet.wait_until(lambda: all(fleet.members[name]["restarts"] == 1 for name in stuck), silent_after_s + 5)
    fleet.ready()
    hung = {name: file.stat().st_mtime - time.time() + time.monotonic() for name, file in marker.items()}
    back_s = {name: first_back(fleet, name) - hung[name] for name in hung}
    assert max(back_s.values()) < silent_after_s + 5
    assert (fleet.members["well"]["restarts"], fleet.pid("well")) == (0, well)
    for name, reason in stuck.items():
        assert any(line.startswith(f"{name} is killed: {reason}") for line in fleet.lines("hub"))
    assert not psutil.pid_exists(frozen)
    measured(
        5,
        "worker hangs",
        injected=f"sleeps in C with the GIL, silent_after_s={silent_after_s:g}; "
        "event loop alone stands still, promised within 1 s",
        target="killed within 20 s, back within 25 s, the others untouched",
        measured=f"a new one ready after {back_s['gil']:.1f} s (GIL), {back_s['loop']:.1f} s (event loop)",
    )


def test_a_worker_that_ends_at_once_comes_to_one_try_a_pause_and_harms_nobody(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(
        {"a": ("ends", 3), "b": "steady", "c": "misconfigured", "d": "wrong"}, restart_first_s=0.05, restart_cap_s=0.1
    )
    other = fleet.ready_pid("b")
    fleet.wait_until(lambda: fleet.members["a"]["crash_loop"])
    assert (fleet.members["a"]["phase"], fleet.members["a"]["restarts"]) == ("waiting", 5)
    assert fleet.members["c"]["phase"] == "ended"
    assert fleet.lines("c") == ["cameras.yaml:3:5: this cannot be"]
    assert fleet.lines("d")[0] == "d ended by an error of its own"
    assert "RuntimeError: cannot open rtsp://***@10.0.0.5/stream1" in fleet.log()
    assert "p@ss" not in fleet.log()
    assert fleet.pid("b") == other


def test_children_that_flood_or_babble_do_not_hold_the_supervisor(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": "floods", "b": "babbles", "c": "steady"})
    fleet.ready()
    old = fleet.ready_pid("c")
    os.kill(old, signal.SIGKILL)
    fleet.replaced("c", old)
    assert max(later["own"]["at"] - sooner["own"]["at"] for sooner, later in pairwise(fleet.shown)) < 1.5
    assert "b sent a record that cannot be read; ignored" in fleet.lines("hub")


@pytest.mark.long
def test_a_grandchild_that_holds_every_descriptor_hides_no_death(
    start_fleet: Callable[..., Fleet], tmp_path: Path
) -> None:
    marker = tmp_path / "grandchild"
    fleet = start_fleet({"a": ("leaves_a_grandchild", str(marker))}, silent_after_s=2.0)
    old = fleet.ready_pid("a")
    os.kill(old, signal.SIGKILL)
    try:
        fleet.replaced("a", old)
    finally:
        os.kill(int(marker.read_text(encoding="ascii")), signal.SIGKILL)
    assert fleet.ask_to_stop() < STOP_S


@pytest.mark.long
def test_a_supervisor_that_was_stopped_for_a_while_kills_nobody(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(dict.fromkeys("abcd", "steady"), silent_after_s=1.8, stood_still_s=1.0)
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
    assert any(line.startswith("the supervisor itself stood still for ") for line in fleet.lines("hub"))


# The supervisor's own death


BROKER = ("broker", {"directory": "broker", "port": 0})


@pytest.mark.fault
def test_nothing_outlives_a_killed_supervisor(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"broker": BROKER, **dict.fromkeys("abc", ("steady", None, 1))})
    fleet.ready()
    running = fleet.processes()
    assert len(running) == 6, "the supervisor, the keeper, Valkey and three workers"
    suspend(fleet.ready_pid("a"))
    fleet.process.kill()
    killed = time.monotonic()
    _, left = psutil.wait_procs(running, timeout=3.0)
    assert not left
    measured(
        6,
        "supervisor dies",
        injected="kill -9, with the broker and three workers, of which one is stopped",
        target="no orphan after 3 s",
        measured=f"all {len(running)} processes gone after {time.monotonic() - killed:.1f} s",
    )


@pytest.mark.fault
@pytest.mark.parametrize("kills", [20, pytest.param(50, marks=pytest.mark.long)])
def test_nothing_outlives_a_supervisor_that_is_killed_while_it_starts(
    start_fleet: Callable[..., Fleet], kills: int
) -> None:
    def kill_after(seconds: float) -> float:
        fleet = start_fleet({"broker": BROKER, **dict.fromkeys("abc", "steady")})
        with contextlib.suppress(subprocess.TimeoutExpired):
            fleet.process.wait(seconds)
        fleet.kill()
        killed = time.monotonic()
        fleet.gone(within_s=3.0)
        return time.monotonic() - killed

    with ThreadPoolExecutor(4) as at_once:
        gone_s = list(at_once.map(kill_after, [0.005 + 0.195 * number / (kills - 1) for number in range(kills)]))
    measured(
        6,
        "supervisor dies while it starts",
        injected=f"{kills} times kill -9, 5 to 200 ms after it began to fork",
        target="no orphan after 3 s",
        measured=f"nothing left of any after {max(gone_s):.1f} s at most",
    )


# Stopping


def test_a_stop_is_in_order_and_lets_each_finish(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"c": ("slow_to_drain", 0.5, 2), "b": ("slow_to_drain", 0.3, 1), "a": ("slow_to_drain", 0.1)})
    fleet.ready()
    assert fleet.ask_to_stop(signal.SIGINT) < 5.0
    told = [line.split()[2] for line in fleet.log().splitlines() if line.endswith("  drained")]
    assert told == ["c", "b", "a"]
    assert "is killed" not in fleet.log()
    fleet.gone(within_s=1.0)


def test_ctrl_c_reaches_the_whole_group_and_changes_nothing_of_the_order(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": ("slow_to_drain", 0.1, 1), "b": "steady"})
    fleet.ready()
    os.killpg(fleet.process.pid, signal.SIGINT)
    assert fleet.process.wait(STOP_S) == 0
    assert fleet.lines("a") == ["drained"]
    assert fleet.lines("hub") == ["stopping (SIGINT); once more to hurry"]
    fleet.gone(within_s=1.0)


@pytest.mark.long
@pytest.mark.fault
def test_a_stop_with_one_worker_frozen_and_one_deaf_is_over_in_time(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"frozen": ("steady", None, 1), "deaf": ("stubborn", None, 1), "well": ("slow_to_drain", 0.1)})
    fleet.ready()
    suspend(fleet.ready_pid("frozen"))
    took_s = fleet.ask_to_stop()
    assert took_s < STOP_S
    assert fleet.lines("well") == ["drained"]
    assert {line for line in fleet.lines("hub") if "killed" in line} == {
        f"{name} is killed: it did not stop when asked" for name in ("frozen", "deaf")
    }
    fleet.gone(within_s=1.0)
    measured(
        7,
        "stop with a deaf worker",
        injected="SIGTERM with one worker stopped (SIGSTOP) and one that ignores every signal it can",
        target="exit within 10 s",
        measured=f"{took_s:.1f} s; the well one drained",
    )


def test_a_second_signal_hurries(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": "stubborn"})
    fleet.ready()
    fleet.process.send_signal(signal.SIGTERM)
    fleet.wait_until(lambda: fleet.members["a"]["phase"] == "draining")
    assert fleet.ask_to_stop() < 3.0


# What a child has of its supervisor


def test_a_child_has_its_own_descriptors_and_nobody_elses(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": "steady", "b": "steady", "c": ("descriptors", None, 1), "d": ("descriptors", None, 1)})
    fleet.ready()
    for name in "cd":
        found: dict[str, str] = fleet.members[name]["status"]["row"]["open"]
        kinds = sorted(re.sub(r":.*", "", target) for number, target in found.items() if int(number) > 2)
        # The status pipe, the log pipe, and multiprocessing's: a standard input, and the ends that tell of a death.
        assert kinds == ["/dev/null", "pipe", "pipe", "pipe", "socket"], found


def test_records_arrive_with_their_processs_name_and_without_secrets(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"camera:lobby": ("tells", SECRET)})
    fleet.ready()
    fleet.ask_to_stop()
    said = fleet.lines("camera:lobby")
    shown = "rtsp://***@10.0.0.5/stream1"
    assert said == [
        f"opening {shown}",
        "failed",
        "the thread capture ended by an error of its own",
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
def test_kills_under_log_load_change_nothing(start_fleet: Callable[..., Fleet], wanted: int) -> None:
    fleet = start_fleet(
        {"anchor": "chatty", **dict.fromkeys("abc", "chatty")},
        restart_first_s=0.02,
        restart_cap_s=0.04,
        crash_loop_exits=10**6,
    )
    fleet.ready()
    anchor = fleet.ready_pid("anchor")
    kills, silence_s = 0, 0.0
    heard = time.monotonic()
    with fleet.log_file.open(encoding="utf-8") as log:
        while kills < wanted:
            for child in own_children(fleet):
                if child.pid != anchor:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
                        kills += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                fleet.process.wait(0.05)
            silence_s = max(silence_s, time.monotonic() - heard)
            if any(" anchor  number " in line for line in log.readlines()):
                heard = time.monotonic()
            assert silence_s < 1.0, "a survivor's log has stopped"
    settled = len(fleet.shown)
    fleet.wait_until(lambda: len(fleet.shown) > settled + 2 and all(m["ready"] for m in fleet.members.values()))
    assert fleet.pid("anchor") == anchor
    numbers = [int(line.split()[1]) for line in fleet.lines("anchor")]
    assert numbers == list(range(1, len(numbers) + 1)), "a survivor's records are all there, in order"
    showings = fleet.shown[2:]
    gaps = [later["own"]["at"] - sooner["own"]["at"] for sooner, later in pairwise(showings)]
    assert max(gaps) < SHOWN_EVERY_S + 1.0, "blocked for less than a second"
    first, last = next(s for s in fleet.shown if all(m["ready"] for m in s["members"].values())), fleet.shown[-1]
    assert last["own"]["threads"] == first["own"]["threads"]
    assert abs(last["own"]["descriptors"] - first["own"]["descriptors"]) <= 3
    assert all(child.status() != psutil.STATUS_ZOMBIE for child in own_children(fleet))
    assert fleet.ask_to_stop() < STOP_S
    assert "Traceback" not in fleet.log()
    used = [f"{shown['own']['descriptors']} descriptors, {shown['own']['threads']} threads" for shown in (first, last)]
    measured(
        10,
        "workers killed while they log and report",
        injected=f"{kills} times kill -9, each worker logging 100 lines/s",
        target="supervisor never blocked over 1 s; survivors' logs keep coming",
        measured=f"blocked at most {max(0.0, max(gaps) - SHOWN_EVERY_S):.2f} s; survivor's log silent at most "
        f"{silence_s:.2f} s, none of its {len(numbers)} records lost; {used[0]} before, {used[1]} after",
    )
