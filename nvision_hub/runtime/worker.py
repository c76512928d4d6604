"""Run loop of a worker: its tasks, its status reports, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

    from nvision_hub.runtime.messages import Message
    from nvision_hub.runtime.status import Status
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainStep:
    """One step of a worker's drain. `run_worker` cancels it after `timeout_s`."""

    run: Callable[[], Awaitable[object]]
    timeout_s: float
    after_failure: bool = False  # whether the step also runs after a task has failed


async def run_worker(
    pipe: SupervisorPipe,
    snapshot: Callable[[], Status],
    *,
    tasks: Mapping[str, Coroutine[Any, Any, object] | asyncio.Future[Any]],
    on_message: Callable[[Message], None] | None = None,
    started: Callable[[], Awaitable[object]] | None = None,
    drain: Sequence[DrainStep | str] = (),
) -> None:
    """Run tasks and report the worker's status until the supervisor asks the worker to end or a task fails.

    The first report waits for `started`. If a task returns, the worker continues. At the end, the worker processes
    `drain` in order: it runs each `DrainStep`, and cancels each task that a string names. Then it cancels all other
    tasks and sends a last status. Raises the first error of a task or a drain step.
    """
    running = {name: asyncio.ensure_future(task) for name, task in tasks.items()}
    reporting = asyncio.ensure_future(pipe.serve(snapshot, on_message, started))
    errors: list[Exception] = []
    try:
        await _first_end(reporting, running.values())
        failed = not _succeeded(reporting)
        for step in drain:
            if isinstance(step, str):
                if step in running:
                    errors += await _cancel(running.pop(step))
            elif step.after_failure or not failed:
                errors += await _run(step)
    finally:
        errors += await _cancel(*running.values(), reporting)
    pipe.report(snapshot())
    for error in errors:
        raise error


async def _first_end(reporting: asyncio.Future[Any], tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until `reporting` ends or until one of `tasks` fails."""
    pending = {reporting, *tasks}
    while not reporting.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if not all(map(_succeeded, done)):
            return


def _succeeded(task: asyncio.Future[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _run(step: DrainStep) -> list[Exception]:
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(step.timeout_s):
                await step.run()
    except Exception as error:  # noqa: BLE001 - raised again by `run_worker`, after the other steps
        return [error]
    return []


async def _cancel(*tasks: asyncio.Future[Any]) -> list[Exception]:
    """Cancel tasks and return their errors, including the errors of tasks that had already ended."""
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return [end for end in ends if isinstance(end, Exception)]
