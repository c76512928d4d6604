"""How often and how many cameras are dialled at once: real processes at one turnstile, some of them killed in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import clips
from workers.camera.turnstile import HELD_AT_MOST_S, SLOTS, Turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

pytestmark = pytest.mark.fault

_ROOT: Final = Path(__file__).parents[2]
# Passes the turnstile some times, tells when it was inside (CLOCK_MONOTONIC), and stays there as long as it is told.
_PROGRAM: Final = """
import json, sys, threading, time
from pathlib import Path
from workers.camera.turnstile import Turnstile
turnstile, stop = Turnstile(Path(sys.argv[1])), threading.Event()
for _ in range(int(sys.argv[2])):
    with turnstile.passed(stop):
        began = time.monotonic()
        print("inside", flush=True)
        stop.wait(float(sys.argv[3]))
        print(json.dumps([began, time.monotonic()]), flush=True)
"""


@pytest.fixture
def dialler(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(times: int, inside_s: float) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, tmp_path / "dial", str(times), str(inside_s)],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def inside(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"


@pytest.mark.slow
def test_few_are_dialled_at_once(dialler: Callable[..., subprocess.Popen[str]]) -> None:
    processes = [dialler(5, 0.1) for _ in range(2 * SLOTS)]
    spans: list[tuple[float, float]] = []
    for process in processes:
        out, _ = process.communicate(timeout=60)
        spans += [tuple(json.loads(line)) for line in out.splitlines() if line != "inside"]
    assert len(spans) == 5 * len(processes)
    most = max(sum(began <= moment < ended for began, ended in spans) for moment, _ in spans)
    assert 1 < most <= SLOTS


@pytest.mark.slow
def test_a_place_is_free_again_when_who_held_it_is_killed(
    dialler: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    holders = [dialler(1, 60) for _ in range(SLOTS)]
    for holder in holders:
        inside(holder)
        # Stopped, so that it does not give its place back by itself.
        holder.send_signal(signal.SIGSTOP)
    waiter = Turnstile(tmp_path / "dial")
    passed = threading.Event()

    def wait() -> None:
        with waiter.passed(threading.Event()):
            passed.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not passed.wait(HELD_AT_MOST_S + 1)
    holders[0].kill()
    assert passed.wait(1)
    thread.join()


@pytest.mark.slow
def test_a_dead_camera_keeps_its_place_for_a_moment_only(
    dialler: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    for holder in [dialler(1, 60) for _ in range(SLOTS)]:
        inside(holder)
    began = time.monotonic()
    with Turnstile(tmp_path / "dial").passed(threading.Event()):
        assert time.monotonic() - began < HELD_AT_MOST_S + 1


def test_a_stop_ends_the_wait(dialler: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    for holder in [dialler(1, 60) for _ in range(SLOTS)]:
        inside(holder)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with Turnstile(tmp_path / "dial").passed(stop):
        assert time.monotonic() - began < 1


def test_a_folder_that_cannot_be_made_keeps_no_camera_away(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    began = time.monotonic()
    with Turnstile(tmp_path / "file" / "dial").passed(threading.Event()):
        assert time.monotonic() - began < 1


def test_nothing_stays_open(tmp_path: Path) -> None:
    turnstile = Turnstile(tmp_path / "dial")
    with turnstile.passed(threading.Event()):
        pass
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no Path of descriptors is wanted
    for _ in range(100):
        with turnstile.passed(threading.Event()):
            pass
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    for timer in [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
        timer.join(1)  # cancelled, it ends at once
        assert not timer.is_alive()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "dial").iterdir()} == {0o600}
    assert (tmp_path / "dial").stat().st_mode & 0o777 == 0o700


def test_a_camera_is_dialled_through_it(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching], tmp_path: Path
) -> None:
    spec = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
    watching = watch(gst_camera(spec).url(), turnstile=Turnstile(tmp_path / "dial"))
    watching.wait_for(1)
    assert (tmp_path / "dial").is_dir()
