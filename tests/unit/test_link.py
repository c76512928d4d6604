"""A worker's end of its pipe, over a real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from nvision_hub import link as link_module
from nvision_hub.link import MAX_RECORD_BYTES, Command, Link, status_basis
from nvision_hub.status import Promise, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON_S = 5.0


@pytest.fixture
def pipe() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The supervisor's end, which waits a moment for records, and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(SOON_S)
    with ours, theirs:
        yield ours, theirs


def status() -> Status:
    return Status(**status_basis("running"), ready=True, promises={"loop": Promise(at=1.0, within_s=2.0)})


async def ends(link: Link, act: Callable[[], object], on_command: Callable[[Command], None] | None = None) -> None:
    """Run a link, act once it reports, and wait for its end."""
    reported = asyncio.Event()

    def snapshot() -> Status:
        reported.set()
        return status()

    running = asyncio.create_task(link.run(snapshot, on_command))
    async with asyncio.timeout(SOON_S):
        await reported.wait()
        act()
        await running


async def test_it_reports_at_once_and_then_at_intervals(
    pipe: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "REPORT_EVERY_S", 0.02)
    ours, theirs = pipe
    running = asyncio.create_task(Link(theirs).run(status))
    for _ in range(5):
        received = Status.decode(await asyncio.to_thread(ours.recv, MAX_RECORD_BYTES))
        assert (received.pid, received.state, received.ready) == (os.getpid(), "running", True)
        assert received.promises == {"loop": Promise(at=1.0, within_s=2.0)}
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_drain_ends_it(pipe: tuple[socket.socket, socket.socket]) -> None:
    link = Link(pipe[1])
    await ends(link, lambda: pipe[0].send(Command(verb="drain").encode()))
    assert link.ended_by is None


async def test_other_commands_are_handed_on_in_order(pipe: tuple[socket.socket, socket.socket]) -> None:
    given = [Command(verb="pause"), Command(verb="set", arguments={"fps": 2.5}), Command(verb="resume")]
    taken: list[Command] = []

    def send() -> None:
        for command in (*given, Command(verb="drain")):
            pipe[0].send(command.encode())

    await ends(Link(pipe[1]), send, taken.append)
    assert taken == given


async def test_a_command_that_nobody_takes_is_no_harm(pipe: tuple[socket.socket, socket.socket]) -> None:
    def send() -> None:
        pipe[0].send(Command(verb="pause").encode())
        pipe[0].send(Command(verb="drain").encode())

    await ends(Link(pipe[1]), send)


async def test_the_supervisors_end_ends_it(pipe: tuple[socket.socket, socket.socket]) -> None:
    await ends(Link(pipe[1]), pipe[0].close)
    Link(pipe[1]).report(status())  # into the void, without an error


async def test_sigterm_ends_it(pipe: tuple[socket.socket, socket.socket]) -> None:
    link = Link(pipe[1])
    await ends(link, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert link.ended_by is signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_that_stands_alone_ends_by_signals(number: signal.Signals) -> None:
    link = Link(None)
    await ends(link, lambda: os.kill(os.getpid(), number))
    assert link.ended_by is number


def test_a_supervisor_that_does_not_read_holds_nobody_up(pipe: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pipe
    link = Link(theirs)
    for _ in range(2000):
        link.report(status())
    ours.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            assert Status.decode(ours.recv(MAX_RECORD_BYTES)).state == "running", "whole records only"
    link.report(status())
    assert ours.recv(MAX_RECORD_BYTES), "read again, heard again"


def test_a_record_that_is_too_large_goes_without_its_ballast(pipe: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pipe
    huge = "x" * 1_000_000
    Link(theirs).report(
        Status(**status_basis("streaming"), error=huge, metrics={"counters": [[huge, {}, 1]]}, row={"seen": [huge]})
    )
    received = Status.decode(ours.recv(MAX_RECORD_BYTES))
    assert (received.state, received.metrics, received.row) == ("streaming", {}, {})
    assert received.error == "x" * 1000
