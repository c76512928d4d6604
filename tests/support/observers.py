"""Supervisor observer that calls a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvision_hub.supervisor.observer import SupervisorObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvision_hub.supervisor.process_state import ProcessState


class TickObserver(SupervisorObserver):
    """Observer that calls a function with all processes at each tick."""

    def __init__(self, act: Callable[[Sequence[ProcessState]], None]) -> None:
        self._act = act

    def on_tick(self, processes: Sequence[ProcessState], *, stopping: bool) -> None:  # noqa: ARG002 - an interface
        self._act(processes)
