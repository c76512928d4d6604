"""A worker's run loop: how it ends, the order of drain steps, and errors."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from nvision_hub.runtime.status import Status
from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
from nvision_hub.runtime.worker import DrainStep, run_worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass
class History:
    """The names of events, in order."""

    events: list[str] = field(default_factory=list)

    async def forever(self, name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.events.append(f"{name} cancelled")

    def step(self, name: str, *, after_failure: bool = False, timeout_s: float = 1.0) -> DrainStep:
        async def run() -> None:
            self.events.append(name)

        return DrainStep(run=run, timeout_s=timeout_s, after_failure=after_failure)


def ends_when_asked() -> Status:
    """Send SIGTERM to this process, like a service manager, and return a status."""
    os.kill(os.getpid(), signal.SIGTERM)
    return Status(state="running")


def snapshot() -> Status:
    return Status(state="running")


async def test_a_worker_drains_in_the_given_order() -> None:
    history = History()
    await run_worker(
        SupervisorPipe(None),
        ends_when_asked,
        tasks={"uplink": history.forever("uplink"), "publisher": history.forever("publisher")},
        drain=[history.step("uplink drained"), "uplink", "unknown", history.step("publisher drained")],
    )
    assert history.events == ["uplink drained", "uplink cancelled", "publisher drained", "publisher cancelled"]


async def test_the_first_failure_ends_the_other_tasks_and_is_raised() -> None:
    history = History()

    async def fails() -> None:
        raise OSError("no memory")

    with pytest.raises(OSError, match="no memory"):
        await run_worker(
            SupervisorPipe(None),
            snapshot,
            tasks={"capture": fails(), "publisher": history.forever("publisher")},
            drain=[history.step("answers awaited"), history.step("publisher drained", after_failure=True)],
        )
    assert history.events == ["publisher drained", "publisher cancelled"]


async def test_a_task_that_returns_does_not_end_the_worker() -> None:
    returned = asyncio.Event()

    async def returns() -> None:
        returned.set()

    await run_worker(SupervisorPipe(None), ends_when_asked, tasks={"clips": returns()}, started=returned.wait)


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_drain_step_that_hangs_or_fails_does_not_stop_the_others(hangs: bool) -> None:  # noqa: FBT001 - a parameter
    history = History()

    async def run() -> None:
        if hangs:
            await asyncio.Event().wait()
        raise OSError("no connection")

    running = run_worker(
        SupervisorPipe(None),
        ends_when_asked,
        tasks={},
        drain=[DrainStep(run=run, timeout_s=0.01), history.step("publisher drained")],
    )
    if hangs:
        await running
    else:
        with pytest.raises(OSError, match="no connection"):
            await running
    assert history.events == ["publisher drained"]


async def test_a_failure_before_the_start_ends_the_worker() -> None:
    async def fails() -> None:
        raise OSError("port in use")

    with pytest.raises(OSError, match="port in use"):
        await run_worker(SupervisorPipe(None), snapshot, tasks={"server": fails()}, started=asyncio.Event().wait)


@pytest.mark.parametrize("started", [None, asyncio.Event().wait])
async def test_canceling_the_worker_cancels_all_tasks(started: Callable[[], Awaitable[object]] | None) -> None:
    history = History()
    running = asyncio.create_task(
        run_worker(SupervisorPipe(None), snapshot, tasks={"uplink": history.forever("uplink")}, started=started)
    )
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert history.events == ["uplink cancelled"]
