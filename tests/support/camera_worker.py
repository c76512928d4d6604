"""One camera's worker as a real child process, without a supervisor: told what a supervisor would tell it."""

from __future__ import annotations

import select
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.broker.publisher import Stream
from nvision_hub.child import Child, ChildSpec
from nvision_hub.config import Camera
from nvision_hub.link import Command
from nvision_hub.wire import Options
from tests.support.recorder import KEY
from workers.camera import camera as camera_worker
from workers.camera.dial import Service
from workers.camera.settings import CameraSettings, retune

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvision_hub.status import Status
    from tests.support.recorder import Recorder
    from tests.support.redis_server import Server

_DEADLINE_S = 40.0


@dataclass(kw_only=True)
class CameraWorker:
    """A worker, and every status that it has reported."""

    settings: CameraSettings
    statuses: list[Status] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.child = Child(ChildSpec(name="camera:lobby", stage=0, entry=camera_worker.run, settings=self.settings))

    def tune(self, settings: CameraSettings) -> None:
        """Make it one of other settings while it runs."""
        command = retune(self.settings, settings)
        assert command is not None
        assert self.child.ask(command)
        self.settings = settings

    def watch(self, *, width: int | None, fps: float, for_s: float) -> None:
        """Ask for previews."""
        assert self.child.ask(Command(verb="watch", arguments={"width": width, "fps": fps, "for_s": for_s}))

    def wait_for(self, condition: Callable[[Status], bool], within_s: float = _DEADLINE_S) -> Status:
        """The next status that meets the condition."""
        deadline = time.monotonic() + within_s
        while (left_s := deadline - time.monotonic()) > 0:
            select.select([self.child.pipe], [], [], left_s)
            status = self.child.receive().status
            if status is not None:
                self.statuses.append(status)
                if condition(status):
                    return status
        raise AssertionError(f"not within {within_s} s: {self.statuses[-1:]}")

    def wait_for_state(self, state: str) -> Status:
        """The next status in that state."""
        return self.wait_for(lambda status: status.state == state)

    def end(self) -> None:
        """Ask it to end; kill it where it does not."""
        self.child.ask(Command(verb="drain"))
        if not self.child.ended_within(10):
            self.child.kill()
        self.child.close()


def counted(status: Status, metric: str, **labels: str) -> float:
    """A counter in a status: of these labels, or of all where none are given."""
    return sum(
        float(value)
        for name, having, value in status.metrics["counters"]
        if name == metric and (not labels or having == labels)
    )


@pytest.fixture
def start_worker() -> Iterator[Callable[..., CameraWorker]]:
    """Start a worker: `start_worker(url, recorder, redis, fps=5)`; further settings as in cameras.yaml."""
    started: list[CameraWorker] = []

    def start(url: str, recorder: Recorder, redis: Server, *, paused: bool = False, **settings: Any) -> CameraWorker:
        worker = CameraWorker(
            settings=CameraSettings(
                camera=Camera.model_validate({"id": "lobby", "url": url, **settings}),
                site="test",
                service=Service(url=f"{recorder.url}/v1/object-detection", key=KEY, options=Options(), direct=True),
                stream=Stream(url=redis.url, prefix="nvision", max_entries=1000),
                paused=paused,
            )
        )
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.end()
