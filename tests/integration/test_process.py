"""Child processes that cannot start, observers that fail, and a process that cannot be killed."""

from __future__ import annotations

import dataclasses
import errno
import gc
import os
import resource
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from nvision_hub.runtime.messages import Drain, RestartProcess
from nvision_hub.runtime.process import ChildProcess, ProcessSpec
from nvision_hub.supervisor.observer import SupervisorObserver
from nvision_hub.supervisor.process_state import ProcessState, SupervisorLimits
from nvision_hub.supervisor.supervisor import Supervisor
from tests.support.children import steady
from tests.support.observers import TickObserver
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nvision_hub.runtime.messages import ProcessInfo
    from nvision_hub.runtime.status import Status
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

SPEC = ProcessSpec(name="a", stage=0, entry=steady, settings=None)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a number is enough


def end(child: ChildProcess) -> int | None:
    child.send(Drain())
    assert child.ended_within(PATIENCE_S)
    code = child.exit_code
    child.close()
    return code


@pytest.fixture
def _descriptors_limited() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_descriptors_limited")
def test_a_start_without_descriptors_leaks_none() -> None:
    end(ChildProcess(SPEC))  # the first start opens descriptors that stay open
    gc.collect()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    used, threads = open_descriptors(), threading.active_count()
    refused = 0
    while True:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + refused, most))
        try:
            child = ChildProcess(SPEC)
        except OSError as error:
            assert error.errno == errno.EMFILE  # noqa: PT017 - the loop goes on with more descriptors
            refused += 1
        else:
            break
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        gc.collect()
        assert (open_descriptors(), threading.active_count()) == (used, threads), f"after rejection {refused}"
    assert refused > 5, "a child needs more descriptors than this"
    assert end(child) == 0
    assert open_descriptors() == used


def test_a_start_without_a_free_process_leaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    end(ChildProcess(SPEC))
    gc.collect()
    used, threads = open_descriptors(), threading.active_count()

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(BlockingIOError):
        ChildProcess(SPEC)
    gc.collect()
    assert open_descriptors() == used
    assert threading.active_count() == threads


def test_a_start_without_a_free_thread_leaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    end(ChildProcess(SPEC))
    gc.collect()
    used = open_descriptors()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="no thread for a child's log"):
        ChildProcess(SPEC)
    gc.collect()
    assert open_descriptors() == used


def test_the_supervisor_retries_when_the_machine_has_resources(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fork, failed_forks = os.fork, iter(range(2))

    def fork_after_failures() -> int:
        if next(failed_forks, None) is not None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    def watch(members: Sequence[ProcessState]) -> None:
        if all(member.ready for member in members):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(os, "fork", fork_after_failures)
    Supervisor([SPEC], limits=SupervisorLimits(start_failure_delay_s=0.1), observer=TickObserver(watch)).run()
    failures = [message for message in caplog.messages if "could not start" in message]
    assert len(failures) == 2
    assert failures[0].startswith("a could not start: Resource temporarily unavailable; raise the limit of processes ")


class FailingObserver(SupervisorObserver):
    """Observer that raises on every call and requests a stop on the third reload."""

    def __init__(self) -> None:
        self._reloads = iter(range(100))

    def on_tick(self, processes: Sequence[ProcessState], *, stopping: bool) -> None:  # noqa: ARG002 - an interface
        raise RuntimeError("the terminal is gone")

    def reload(self, *, requested: bool) -> None:  # noqa: ARG002 - an interface
        if next(self._reloads) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("unforeseen")

    def hub_status(self) -> tuple[ProcessInfo, Status] | None:
        raise RuntimeError("unforeseen")


def test_an_observer_that_fails_cannot_end_the_processes(caplog: pytest.LogCaptureFixture) -> None:
    subscriber = dataclasses.replace(SPEC, subscriber=True)
    assert Supervisor([subscriber], observer=FailingObserver()).run() is signal.SIGTERM
    events = [getattr(record, "event", None) for record in caplog.records]
    assert events.count("observer_failed") == 1
    assert events.count("reload_failed") == 3
    assert events.count("hub_status_failed") > 0


def ask(_: object, pipe: SupervisorPipe) -> None:
    for target in ("b", "c"):
        pipe.request(RestartProcess(target=target))


def test_a_subscriber_is_served_one_request_at_a_time() -> None:
    child = ChildProcess(dataclasses.replace(SPEC, entry=ask, subscriber=True))
    assert child.ended_within(PATIENCE_S)
    targets = [[request.target for request in child.receive().requests] for _ in range(2)]  # type: ignore[union-attr]
    child.close()
    assert targets == [["b"], ["c"]]


class RepeatedReloads(SupervisorObserver):
    """Observer that receives many SIGHUP during its first reload, and requests a stop some reloads later."""

    def __init__(self) -> None:
        self.reloads: list[bool] = []  # whether each was requested

    def reload(self, *, requested: bool) -> None:
        self.reloads.append(requested)
        for _ in range(20 if len(self.reloads) == 1 else 0):
            signal.raise_signal(signal.SIGHUP)
        if len(self.reloads) == 5:
            os.kill(os.getpid(), signal.SIGTERM)


def test_many_requests_for_a_reload_cause_one() -> None:
    observer = RepeatedReloads()
    assert Supervisor([SPEC], observer=observer).run() is signal.SIGTERM
    assert observer.reloads.count(True) == 1


def test_an_unkillable_process_does_not_keep_the_supervisor_running(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limits = SupervisorLimits(drain_s=0.1, terminate_s=0.1, stop_s=0.5, reap_s=0.3)
    pids: list[int] = []

    def watch(members: Sequence[ProcessState]) -> None:
        if members[0].ready and members[0].pid is not None:
            pids.append(members[0].pid)
            os.kill(members[0].pid, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGTERM)

    # Only a process stuck in a driver survives SIGKILL, and a test cannot cause this state.
    monkeypatch.setattr(ChildProcess, "kill", lambda _child: None)
    monkeypatch.setattr(ChildProcess, "terminate", lambda _child: None)
    Supervisor([SPEC], limits=limits, observer=TickObserver(watch)).run()
    os.kill(pids[0], signal.SIGKILL)
    os.waitpid(pids[0], 0)
    assert f"a (pid {pids[0]}) does not end even when killed; it is abandoned" in caplog.messages
