"""Calls in short-lived child processes: results, descriptors, errors, log records, and children that fail."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from nvision_hub.errors import ConfigError, Diagnostic, HubError, UnavailableError
from nvision_hub.redaction import known_secrets, register_secrets
from nvision_hub.runtime.forked_call import ForkedCallError, call_in_child
from nvision_hub.runtime.memory_file import MemoryFile
from nvision_hub.runtime.process_resources import open_descriptors
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def _descriptors_limited() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def _without_garbage_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def failing(error: Exception) -> Callable[[], tuple[None, tuple[()]]]:
    def fail() -> tuple[None, tuple[()]]:
        raise error

    return fail


def test_the_result_and_its_files_arrive() -> None:
    contents = [f"file {number}".encode() for number in range(450)]
    size, descriptors = call_in_child(
        lambda: (len(contents), [MemoryFile.create(content) for content in contents]), timeout_s=PATIENCE_S
    )
    assert size == len(contents)
    assert [MemoryFile(descriptor).read() for descriptor in descriptors] == contents


def test_the_function_runs_in_another_process_and_leaves_nothing() -> None:
    def run() -> tuple[int, tuple[()]]:
        register_secrets(["canary-of-the-child"])
        return os.getpid(), ()

    pid, _ = call_in_child(run, timeout_s=PATIENCE_S)
    assert pid != os.getpid()
    assert "canary-of-the-child" not in known_secrets()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "error",
    [
        HubError("no camera is called attic"),
        UnavailableError("no port is free"),
        ConfigError([Diagnostic(code="unknown_key", message="is unknown", path=("cameras", 0), line=3)]),
    ],
)
def test_an_error_for_the_user_is_raised_again(error: HubError) -> None:
    with pytest.raises(type(error)) as caught:
        call_in_child(failing(error), timeout_s=PATIENCE_S)
    assert str(caught.value) == str(error)
    assert caught.value.diagnostics == error.diagnostics


def test_an_unexpected_error_shows_its_traceback_without_secrets() -> None:
    def fail() -> tuple[None, tuple[()]]:
        register_secrets(["canary-password"])
        raise ValueError("rejected: canary-password")

    with pytest.raises(ForkedCallError, match=r"(?s)in fail.*ValueError: rejected: \*\*\*"):
        call_in_child(fail, timeout_s=PATIENCE_S)


def test_a_result_that_cannot_be_sent_shows_its_traceback() -> None:
    with pytest.raises(ForkedCallError, match=r"(?s)^\w+: .*pickle.*Traceback"):
        call_in_child(lambda: (lambda: None, ()), timeout_s=PATIENCE_S)


@pytest.mark.usefixtures("_without_garbage_collector")
def test_an_error_does_not_keep_the_arguments_alive() -> None:
    file = MemoryFile.create(b"content")
    descriptor = file.fileno()

    def call(argument: MemoryFile) -> None:
        def fail() -> tuple[None, tuple[()]]:
            raise HubError(f"rejected: {argument!r}")

        call_in_child(fail, timeout_s=PATIENCE_S)

    with pytest.raises(HubError) as caught:
        call(file)
    del file, caught
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.usefixtures("_descriptors_limited")
def test_a_call_without_descriptors_leaks_none() -> None:
    files = [MemoryFile.create(b"content") for _ in range(3)]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(open_descriptors())
    rejected = 0
    while True:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1 + rejected, most))
        try:
            _, received = call_in_child(lambda: (None, files), timeout_s=PATIENCE_S)
        except UnavailableError as error:
            assert "Too many open files" in str(error)  # noqa: PT017 - the loop continues with more descriptors
            rejected += 1
        else:
            break
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        assert len(open_descriptors()) == used, f"after rejection {rejected}"
    assert rejected > 3, "the call needs more descriptors than this"
    for descriptor in received:
        os.close(descriptor)
    assert len(open_descriptors()) == used


def test_log_records_are_handled_by_the_parent(caplog: pytest.LogCaptureFixture) -> None:
    def run() -> tuple[None, tuple[()]]:
        register_secrets(["canary-password"])
        log = logging.getLogger("nvision_hub.config")
        log.warning("%s set aside: %s", "a change", "canary-password", extra={"event": "override_set_aside"})
        return None, ()

    call_in_child(run, timeout_s=PATIENCE_S)
    (record,) = caplog.records
    assert (record.getMessage(), record.levelname) == ("a change set aside: ***", "WARNING")
    assert record.event == "override_set_aside"  # type: ignore[attr-defined]


def test_a_child_that_dies_is_reported() -> None:
    with pytest.raises(UnavailableError, match="its process ended"):
        call_in_child(lambda: os.kill(os.getpid(), signal.SIGKILL), timeout_s=PATIENCE_S)  # type: ignore[arg-type, return-value]


def test_a_child_that_hangs_is_killed() -> None:
    def hang() -> tuple[None, tuple[()]]:
        time.sleep(10 * PATIENCE_S)
        return None, ()

    ours, theirs = socket.socketpair()
    with ours:
        with theirs, pytest.raises(UnavailableError, match="it took longer than 0 s"):
            call_in_child(hang, timeout_s=0.2)
        ours.settimeout(PATIENCE_S)
        assert ours.recv(1) == b"", "the child, which inherited the other end, is still alive"
