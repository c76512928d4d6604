"""One real child at a time, where the machine has nothing to give, and where those around the supervisor fail."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from nvision_hub.child import Child, ChildSpec
from nvision_hub.link import Command
from nvision_hub.supervisor import Limits, Member, Supervisor
from tests.support.children import steady

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SPEC = ChildSpec(name="a", stage=0, entry=steady, settings=None)
SOON_S = 10.0


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a number is enough


def end(child: Child) -> int | None:
    child.ask(Command(verb="drain"))
    assert child.ended_within(SOON_S)
    code = child.exit_code
    child.close()
    return code


@pytest.fixture
def _descriptors_limited() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_descriptors_limited")
def test_a_child_for_which_there_are_no_descriptors_leaves_none_behind() -> None:
    end(Child(SPEC))  # what is opened once and kept is open now
    gc.collect()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    used, threads = open_descriptors(), threading.active_count()
    refused = 0
    while True:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + refused, most))
        try:
            child = Child(SPEC)
        except OSError as error:
            assert error.errno == errno.EMFILE  # noqa: PT017 - the loop goes on with more descriptors
            refused += 1
        else:
            break
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        gc.collect()
        assert (open_descriptors(), threading.active_count()) == (used, threads), f"after refusal {refused}"
    assert refused > 5, "a child needs more descriptors than that"
    assert end(child) == 0
    assert open_descriptors() == used


def test_a_child_for_which_there_is_no_process_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    end(Child(SPEC))
    gc.collect()
    used, threads = open_descriptors(), threading.active_count()

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(BlockingIOError):
        Child(SPEC)
    gc.collect()
    assert open_descriptors() == used
    assert threading.active_count() == threads


def test_a_child_for_which_there_is_no_thread_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    end(Child(SPEC))
    gc.collect()
    used = open_descriptors()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="no thread for a child's log"):
        Child(SPEC)
    gc.collect()
    assert open_descriptors() == used


def test_the_supervisor_tries_again_when_the_machine_has_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fork, refusals = os.fork, iter(range(2))

    def grudging() -> int:
        if next(refusals, None) is not None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    def watch(members: Sequence[Member]) -> None:
        if all(member.ready for member in members):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(os, "fork", grudging)
    Supervisor([SPEC], limits=Limits(no_room_pause_s=0.1), watch=watch).run()
    told = [message for message in caplog.messages if "could not be started" in message]
    assert len(told) == 2
    assert told[0].startswith("a could not be started: Resource temporarily unavailable; raise the limit of processes ")


def test_whoever_shows_or_renews_cannot_end_the_fleet(caplog: pytest.LogCaptureFixture) -> None:
    asked = iter(range(100))

    def watch(_members: Sequence[Member]) -> None:
        raise RuntimeError("the terminal is gone")

    def renew(_asked: bool) -> None:  # noqa: FBT001 - the supervisor's signature
        if next(asked) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("nobody foresaw this")

    assert Supervisor([SPEC], watch=watch, renew=renew).run() is signal.SIGTERM
    assert caplog.messages.count("the members can no longer be shown") == 1
    assert caplog.messages.count("the change is not taken up, what ran runs on") == 3


def test_a_process_that_nothing_ends_does_not_keep_the_supervisor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(drain_s=0.1, terminate_s=0.1, stop_s=0.5, reap_s=0.3)
    pids: list[int] = []

    def watch(members: Sequence[Member]) -> None:
        if members[0].ready and members[0].pid is not None:
            pids.append(members[0].pid)
            os.kill(members[0].pid, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGTERM)

    # Nothing a test can do makes a process immune to SIGKILL, as one is that is stuck in a driver.
    monkeypatch.setattr(Child, "kill", lambda _child: None)
    monkeypatch.setattr(Child, "terminate", lambda _child: None)
    Supervisor([SPEC], limits=limits, watch=watch).run()
    os.kill(pids[0], signal.SIGKILL)
    os.waitpid(pids[0], 0)
    assert f"a (pid {pids[0]}) does not end even when killed; it is left behind" in caplog.messages
