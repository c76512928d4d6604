"""A real `nvision-hub start` with a service manager's notify socket, but without systemd."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil
import pytest

from nvision_hub.hub.sd_notify import READY, WATCHDOG, SdNotifier, status
from tests.support import hub
from tests.support.patience import is_on_time
from tests.support.service_manager import ServiceManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.command import Running

pytestmark = pytest.mark.long


ABSENT = [{"id": "absent", "url": "rtsp://viewer:canary@127.0.0.1:9/stream1"}, {"id": "street", "url": "demo://street"}]
WATCHED = {"WATCHDOG_USEC": "20000000"}


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(tmp_path / "notify" if request.param == "path" else None) as manager:
        yield manager


def test_a_hub_notifies_ready_watchdog_and_stopping(
    manager: ServiceManager, tmp_path: Path, start_command: Callable[..., Running]
) -> None:
    hub.write(tmp_path, ABSENT, None)
    running = start_command("start", cwd=tmp_path, env={"NOTIFY_SOCKET": manager.address, **WATCHED})
    manager.wait_until(lambda: bool(manager.with_line(READY)))
    manager.wait_until(lambda: bool(manager.with_line("STATUS=1 of 2 cameras stream")))
    assert len(manager.with_line(READY)) == 1
    ready = manager.with_line(READY)[0].at
    manager.wait_until(lambda: len(manager.with_line(WATCHDOG, since=ready)) >= 6)
    beat_times = [notification.at for notification in manager.with_line(WATCHDOG)]
    assert is_on_time(max(later - earlier for earlier, later in pairwise(beat_times)), 10)  # half of the watchdog time

    running.process.send_signal(signal.SIGSTOP)
    try:
        manager.silent_for(1.0)  # skip messages sent before the stop
        assert manager.silent_for(3.0), "a stopped supervisor must not send watchdog messages"
    finally:
        running.process.send_signal(signal.SIGCONT)
    manager.wait_until(lambda: bool(manager.with_line(WATCHDOG, since=beat_times[-1] + 3.0)))

    running.record_family()
    running.process.send_signal(signal.SIGTERM)
    manager.wait_until(lambda: bool(manager.with_line("STOPPING=1")))
    assert running.wait() == 0
    assert running.survivors() == []
    assert len(manager.with_line("STOPPING=1")) == 1
    assert {notification.pid for notification in manager.notifications} == {running.process.pid}
    assert "canary" not in str(manager.notifications)


def test_children_do_not_inherit_the_notify_socket(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    with ServiceManager(tmp_path / "notify") as manager:
        hub.write(tmp_path, ABSENT, None)
        running = start_command("start", cwd=tmp_path, env={"NOTIFY_SOCKET": manager.address, **WATCHED})
        manager.wait_until(lambda: bool(manager.with_line("STATUS=1 of 2 cameras stream")))
        valkey = [it for it in psutil.Process(running.process.pid).children(recursive=True) if "valkey" in it.name()]
        assert valkey
        for process in valkey:  # after exec, Valkey has its own environment
            if "nvision-hub" not in " ".join(process.cmdline()):
                assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(process.environ())


def test_a_hub_that_cannot_run_never_notifies_ready(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    with ServiceManager(tmp_path / "notify") as manager:
        hub.write(tmp_path, [{"id": "lobby", "url": "nothing"}], None)
        running = start_command("start", cwd=tmp_path, env={"NOTIFY_SOCKET": manager.address, **WATCHED})
        assert running.wait() == 78
        assert manager.notifications == []


def test_without_a_watchdog_no_watchdog_message_is_sent(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    with ServiceManager(tmp_path / "notify") as manager:
        hub.write(tmp_path, ABSENT[1:], None)
        start_command("start", cwd=tmp_path, env={"NOTIFY_SOCKET": manager.address})
        manager.wait_until(lambda: bool(manager.with_line("STATUS=1 of 1 cameras stream")))
        assert manager.with_line(READY)
        assert not manager.with_line(WATCHDOG)


@pytest.mark.parametrize(
    ("environ", "known"),
    [
        ({}, SdNotifier()),
        ({"NOTIFY_SOCKET": ""}, SdNotifier()),
        ({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1"}, SdNotifier()),
        ({"NOTIFY_SOCKET": "/run/x"}, SdNotifier(address="/run/x")),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2500000"}, SdNotifier(address="@x", watchdog_s=2.5)),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, SdNotifier(address="@x")),
        (
            {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())},
            SdNotifier(address="@x", watchdog_s=2.5),
        ),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "soon"}, SdNotifier(address="@x")),
    ],
)
def test_notify_variables_are_removed_from_the_environment(environ: dict[str, str], known: SdNotifier) -> None:
    left = {"PATH": "/bin", **environ}
    assert SdNotifier.from_environ(left) == known
    assert left == {"PATH": "/bin"}


def test_a_manager_that_does_not_listen_delays_nothing(tmp_path: Path) -> None:
    assert not SdNotifier().send(READY)
    assert not SdNotifier(address=str(tmp_path / "missing")).send(READY)
    assert not SdNotifier(address="@" + "x" * 200).send(READY)
    assert status("two\nlines") == "STATUS=two lines"
