"""A hub under a service manager, without systemd: the same socket, and a real `nvision-hub start`."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil
import pytest

from nvision_hub.notify import READY, WATCHDOG, Notify, status
from tests.support import hub
from tests.support.service_manager import ServiceManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.command import Running

pytestmark = pytest.mark.long


NOBODY = [{"id": "nobody", "url": "rtsp://viewer:canary@127.0.0.1:9/stream1"}, {"id": "street", "url": "demo://street"}]
WATCHED = {"WATCHDOG_USEC": "20000000"}


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(tmp_path / "notify" if request.param == "path" else None) as manager:
        yield manager


def test_a_hub_says_that_it_is_up_that_it_turns_and_that_it_stops(
    manager: ServiceManager, tmp_path: Path, start_command: Callable[..., Running]
) -> None:
    hub.write(tmp_path, NOBODY, None)
    running = start_command("start", cwd=tmp_path, env={"NOTIFY_SOCKET": manager.address, **WATCHED})
    manager.wait_until(lambda: bool(manager.told(READY)))
    manager.wait_until(lambda: bool(manager.told("STATUS=1 of 2 cameras stream")))
    assert len(manager.told(READY)) == 1
    ready = manager.told(READY)[0].at
    manager.wait_until(lambda: len(manager.told(WATCHDOG, since=ready)) >= 6)
    beats = [note.at for note in manager.told(WATCHDOG)]
    assert max(later - earlier for earlier, later in pairwise(beats)) < 10  # half of what it was given

    running.process.send_signal(signal.SIGSTOP)
    try:
        manager.silent_for(1.0)  # what it had sent before
        assert manager.silent_for(3.0), "a supervisor that does not turn must not say that it does"
    finally:
        running.process.send_signal(signal.SIGCONT)
    manager.wait_until(lambda: bool(manager.told(WATCHDOG, since=beats[-1] + 3.0)))

    running.note_family()
    running.process.send_signal(signal.SIGTERM)
    manager.wait_until(lambda: bool(manager.told("STOPPING=1")))
    assert running.wait() == 0
    assert running.survivors() == []
    assert len(manager.told("STOPPING=1")) == 1
    assert {note.pid for note in manager.notes} == {running.process.pid}
    assert "canary" not in str(manager.notes)


def test_what_the_hub_runs_does_not_know_the_socket(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    with ServiceManager(tmp_path / "notify") as manager:
        hub.write(tmp_path, NOBODY, None)
        running = start_command("start", cwd=tmp_path, env={"NOTIFY_SOCKET": manager.address, **WATCHED})
        manager.wait_until(lambda: bool(manager.told("STATUS=1 of 2 cameras stream")))
        valkey = [it for it in psutil.Process(running.process.pid).children(recursive=True) if "valkey" in it.name()]
        assert valkey
        for process in valkey:  # the one that was executed, and so has an environment of its own
            if "nvision-hub" not in " ".join(process.cmdline()):
                assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(process.environ())


def test_a_hub_that_cannot_run_never_says_that_it_is_up(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    with ServiceManager(tmp_path / "notify") as manager:
        hub.write(tmp_path, [{"id": "lobby", "url": "nothing"}], None)
        running = start_command("start", cwd=tmp_path, env={"NOTIFY_SOCKET": manager.address, **WATCHED})
        assert running.wait() == 78
        assert manager.notes == []


def test_without_a_watchdog_there_are_no_beats(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    with ServiceManager(tmp_path / "notify") as manager:
        hub.write(tmp_path, NOBODY[1:], None)
        start_command("start", cwd=tmp_path, env={"NOTIFY_SOCKET": manager.address})
        manager.wait_until(lambda: bool(manager.told("STATUS=1 of 1 cameras stream")))
        assert manager.told(READY)
        assert not manager.told(WATCHDOG)


@pytest.mark.parametrize(
    ("environ", "known"),
    [
        ({}, Notify()),
        ({"NOTIFY_SOCKET": ""}, Notify()),
        ({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1"}, Notify()),
        ({"NOTIFY_SOCKET": "/run/x"}, Notify(address="/run/x")),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2500000"}, Notify(address="@x", watchdog_s=2.5)),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, Notify(address="@x")),
        (
            {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())},
            Notify(address="@x", watchdog_s=2.5),
        ),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "soon"}, Notify(address="@x")),
    ],
)
def test_the_environment_is_taken(environ: dict[str, str], known: Notify) -> None:
    left = {"PATH": "/bin", **environ}
    assert Notify.taken_from(left) == known
    assert left == {"PATH": "/bin"}


def test_a_manager_that_does_not_listen_holds_up_nobody(tmp_path: Path) -> None:
    assert not Notify().tell(READY)
    assert not Notify(address=str(tmp_path / "missing")).tell(READY)
    assert not Notify(address="@" + "x" * 200).tell(READY)
    assert status("two\nlines") == "STATUS=two lines"
