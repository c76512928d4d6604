"""The worker's end of the pipe to its supervisor, tested on a real pipe."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from nvision_hub.metrics.snapshot import MetricSnapshot
from nvision_hub.runtime import supervisor_pipe
from nvision_hub.runtime.messages import MAX_RECORD_BYTES, Configure, Drain, Message, RequestPreview, decode, encode
from nvision_hub.runtime.status import CameraInfo, Deadline, Status
from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def pipe() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the supervisor's end and the worker's end. The supervisor's end waits up to `PATIENCE_S` for a record."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    with ours, theirs:
        yield ours, theirs


def status() -> Status:
    return Status(state="running", ready=True, deadlines={"loop": Deadline(at=1.0, timeout_s=2.0)})


async def ends(
    supervisor: SupervisorPipe, act: Callable[[], object], on_message: Callable[[Message], None] | None = None
) -> None:
    """Serve a pipe, call `act` after the first report, and wait until the pipe ends."""
    reported = asyncio.Event()

    def snapshot() -> Status:
        reported.set()
        return status()

    running = asyncio.create_task(supervisor.serve(snapshot, on_message))
    async with asyncio.timeout(PATIENCE_S):
        await reported.wait()
        act()
        await running


async def test_a_worker_reports_immediately_and_then_at_intervals(
    pipe: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_pipe, "REPORT_INTERVAL_S", 0.02)
    ours, theirs = pipe
    running = asyncio.create_task(SupervisorPipe(theirs).serve(status))
    for _ in range(5):
        received = decode(await asyncio.to_thread(ours.recv, MAX_RECORD_BYTES))
        assert isinstance(received, Status)
        assert (received.pid, received.state, received.ready) == (os.getpid(), "running", True)
        assert received.deadlines == {"loop": Deadline(at=1.0, timeout_s=2.0)}
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_signal_ends_a_worker_that_is_still_starting() -> None:
    pipe = SupervisorPipe(None)

    async def start() -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE_S):
        await pipe.serve(status, started=start)
    assert pipe.ended_by is signal.SIGTERM


async def test_drain_ends_a_worker(pipe: tuple[socket.socket, socket.socket]) -> None:
    supervisor = SupervisorPipe(pipe[1])
    await ends(supervisor, lambda: pipe[0].send(encode(Drain())))
    assert supervisor.ended_by is None


async def test_messages_other_than_drain_are_passed_on_in_order(pipe: tuple[socket.socket, socket.socket]) -> None:
    given: list[Message] = [
        Configure(fps=2.5, jpeg_quality=85, max_width=None, confidence_threshold=0.1, paused=True),
        RequestPreview(width=640, fps=5.0, duration_s=2.0),
    ]
    received: list[Message] = []

    def send() -> None:
        for message in (*given, Drain()):
            pipe[0].send(encode(message))

    await ends(SupervisorPipe(pipe[1]), send, received.append)
    assert received == given


async def test_messages_that_are_malformed_or_not_handled_are_ignored(
    pipe: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    def send() -> None:
        pipe[0].send(b"Configure {}")
        pipe[0].send(encode(RequestPreview(width=640, fps=5.0, duration_s=2.0)))
        pipe[0].send(encode(Drain()))

    await ends(SupervisorPipe(pipe[1]), send)
    assert "malformed Configure" in caplog.text


async def test_a_worker_ends_with_its_supervisor(pipe: tuple[socket.socket, socket.socket]) -> None:
    await ends(SupervisorPipe(pipe[1]), pipe[0].close)
    SupervisorPipe(pipe[1]).report(status())  # a report to a closed pipe causes no error


async def test_sigterm_ends_a_worker(pipe: tuple[socket.socket, socket.socket]) -> None:
    supervisor = SupervisorPipe(pipe[1])
    await ends(supervisor, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert supervisor.ended_by is signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_standalone_worker_ends_on_signals(number: signal.Signals) -> None:
    supervisor = SupervisorPipe(None)
    await ends(supervisor, lambda: os.kill(os.getpid(), number))
    assert supervisor.ended_by is number


def test_a_supervisor_that_does_not_read_delays_no_worker(pipe: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pipe
    supervisor = SupervisorPipe(theirs)
    for _ in range(2000):
        supervisor.report(status())
    ours.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            assert decode(ours.recv(MAX_RECORD_BYTES)).state == "running", "an incomplete record arrived"  # type: ignore[union-attr]
    supervisor.report(status())
    assert ours.recv(MAX_RECORD_BYTES), "reports arrive again once the supervisor reads"


def test_a_status_that_is_too_large_is_sent_without_metrics_and_info(
    pipe: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pipe
    huge = "x" * 1_000_000
    metrics = MetricSnapshot(counters={(huge, ()): 1.0})
    SupervisorPipe(theirs).report(Status(state="streaming", error=huge, metrics=metrics, info=CameraInfo(seen=(huge,))))
    received = decode(ours.recv(MAX_RECORD_BYTES))
    assert isinstance(received, Status)
    assert (received.state, received.metrics, received.info) == ("streaming", MetricSnapshot(), None)
    assert received.error == "x" * 1000
