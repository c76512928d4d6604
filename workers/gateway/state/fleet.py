"""State of all processes of the hub, updated by the supervisor's messages. Performs no I/O and reads no clock.

Counters never decrease, for two reasons. The supervisor's description of a process includes the counts of its earlier
runs. A status report is used only together with the description of the same run, which the pid identifies.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.runtime.messages import (
    CameraFacts,
    ProcessChanged,
    ProcessInfo,
    ProcessRemoved,
    StatusReported,
    WebhooksFacts,
)
from nvision_hub.runtime.status import CameraState, Status
from workers.gateway.state.history import MetricHistory

if TYPE_CHECKING:
    from nvision_hub.metrics.snapshot import MetricSnapshot
    from nvision_hub.runtime.messages import Message

CAMERA: Final = "camera:"
HUB: Final = "hub"  # the supervisor, which describes itself after all other processes
MAX_ERRORS: Final = 20
_NO_STATUS: Final = Status(state=CameraState.STARTING, pid=0)
_NO_FACTS: Final = CameraFacts(index=sys.maxsize)  # sorts after all known cameras


@dataclass(kw_only=True, slots=True)
class MonitoredProcess:
    """One process. Times are in seconds since the epoch, except in `info` and in status reports."""

    info: ProcessInfo
    status: Status = _NO_STATUS  # last status report of the current run; empty before the first report
    last_status: Status = _NO_STATUS  # last status report of any run
    state: str = CameraState.STARTING
    since: float = 0.0  # when the process entered its state
    errors: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=MAX_ERRORS))
    history: MetricHistory = field(default_factory=MetricHistory)
    result_at: float | None = None  # arrival time of the last result by callback, which the worker does not see
    result_names: tuple[str, ...] = ()  # names of the detections in that result
    # Whether all counts are known; False until each process older than the gateway has reported.
    is_complete: bool = True
    _metrics: MetricSnapshot | None = None
    _last_error: str | None = None

    @property
    def name(self) -> str:
        """Name of the process, for example "camera:lobby"."""
        return self.info.name

    @property
    def camera(self) -> str | None:
        """Id of the camera; None for other kinds of processes."""
        return self.name.removeprefix(CAMERA) if self.name.startswith(CAMERA) else None

    @property
    def facts(self) -> CameraFacts:
        """Facts about the camera, including its settings without secrets; empty while unknown."""
        return self.info.facts if isinstance(self.info.facts, CameraFacts) else _NO_FACTS

    @property
    def metrics(self) -> MetricSnapshot | None:
        """Metrics of all runs of the process; None until all of them are known."""
        if not self.is_complete:
            return None
        if self._metrics is None:
            self._metrics = self.info.past.merge(self.status.metrics)
        return self._metrics

    @property
    def error(self) -> str | None:
        """Current errors of the process as text for display; None if it has none."""
        errors = []
        if self.info.due_in_s is not None and self.info.restarts:
            errors.append("the process keeps ending" if self.info.crash_loop else "the process has ended")
        if self.status.error is not None:
            errors.append(self.status.error)
        return "; ".join(errors) or None

    def on_changed(self, info: ProcessInfo, wall: float) -> None:
        """Apply the supervisor's new description of the process. `wall` is in seconds since the epoch."""
        if info.pid != self.info.pid:
            self.status, self.is_complete = _NO_STATUS, True
        self.info, self._metrics = info, None
        if self.last_status.pid == info.pid:
            self.status, self.is_complete = self.last_status, True
        self._update_state(wall)

    def on_status(self, status: Status, wall: float) -> None:
        """Apply a report of the current run. Keep a report of another run until that run's description arrives."""
        self.last_status = status
        if status.pid == self.info.pid:
            self.status, self.is_complete, self._metrics = status, True, None
            self._update_state(wall)

    def _update_state(self, wall: float) -> None:
        state, error = self.status.state, self.error
        if self.info.crash_loop:
            state = CameraState.CRASH_LOOP
        elif self.info.phase == "ended":
            state = CameraState.STOPPED
        if state != self.state:
            self.state, self.since = state, wall
        if state == self.status.state and self.status.camera.since is not None:
            self.since = self.status.camera.since  # the worker knows the exact time at which the state began
        if error is not None and error != self._last_error:
            self.errors.append((wall, error))
        self._last_error = error


class FleetState:
    """State of all processes by name, in the order of the first message about each process."""

    def __init__(self) -> None:
        self.processes: dict[str, MonitoredProcess] = {}

    def on_message(self, message: Message, *, wall: float) -> None:
        """Apply one of the supervisor's messages. `wall` is in seconds since the epoch."""
        match message:
            case ProcessChanged(info=info):
                if info.name not in self.processes:
                    self.processes[info.name] = MonitoredProcess(info=info, since=wall, is_complete=info.pid is None)
                self.processes[info.name].on_changed(info, wall)
            case ProcessRemoved(name=name):
                self.processes.pop(name, None)
            case StatusReported(name=name, status=status) if name in self.processes:
                self.processes[name].on_status(status, wall)

    def record(self, now: float) -> None:
        """Add a point to the history of every process. `now` is in monotonic seconds."""
        for process in self.processes.values():
            info = process.status.camera
            process.history.record(now, process.metrics, rate_in=info.rate_in, rate_out=info.rate_out)

    def cameras(self) -> list[MonitoredProcess]:
        """Return all cameras, in the order of cameras.yaml."""
        cameras = [process for process in self.processes.values() if process.camera is not None]
        return sorted(cameras, key=lambda process: process.facts.index)

    def camera(self, camera_id: str) -> MonitoredProcess | None:
        return self.processes.get(CAMERA + camera_id)

    def webhooks(self) -> tuple[dict[str, Any], ...]:
        """Return the settings of all webhooks, without secrets; empty while unknown."""
        process = self.processes.get("webhooks")
        facts = None if process is None else process.info.facts
        return facts.webhooks if isinstance(facts, WebhooksFacts) else ()
