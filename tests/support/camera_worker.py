"""A real worker of one camera, with a thread of the test in place of the supervisor."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.broker.client import RedisSettings
from nvision_hub.config.models import Camera
from nvision_hub.nvision.connection import ServiceEndpoint
from nvision_hub.nvision.protocol import RequestOptions
from nvision_hub.runtime.messages import ConnectSlotGranted, Drain, RequestPreview, TurnRequest
from nvision_hub.runtime.process import ChildProcess, ProcessSpec
from nvision_hub.supervisor.connection_turns import ConnectionTurns
from tests.support.metrics import series_sum
from tests.support.patience import PATIENCE_S
from tests.support.recorder import KEY
from workers.camera import worker as camera_worker
from workers.camera.settings import CameraWorkerSettings, reconfigure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvision_hub.runtime.status import Status
    from tests.support.recorder import Recorder
    from tests.support.redis_server import Server


@dataclass(kw_only=True)
class CameraWorker:
    """A worker and all status reports that it has sent."""

    settings: CameraWorkerSettings
    statuses: list[Status] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.child = ChildProcess(
            ProcessSpec(name="camera:lobby", stage=0, entry=camera_worker.run, settings=self.settings)
        )
        self._seen = 0  # number of statuses that `wait_for` has checked
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    def _supervise(self) -> None:
        """Collect statuses and grant reconnect turns like the supervisor."""
        turns = ConnectionTurns()
        with contextlib.suppress(EOFError):
            while not self._ended.is_set():
                if not select.select([self.child.pipe], [], [], 0.1)[0]:
                    continue
                output, now = self.child.receive(), time.monotonic()
                for request in output.requests:
                    if isinstance(request, TurnRequest) and (reply := turns.add("lobby", request, now)) is not None:
                        self.child.send(reply)
                for _ in turns.grant(now):
                    self.child.send(ConnectSlotGranted())
                if output.status is not None:
                    with self._changed:
                        self.statuses.append(output.status)
                        self._changed.notify_all()

    def configure(self, settings: CameraWorkerSettings) -> None:
        """Change the settings of the running worker."""
        message = reconfigure(self.settings, settings)
        assert message is not None
        assert self.child.send(message)
        self.settings = settings

    def request_previews(self, *, width: int | None, fps: float, for_s: float) -> None:
        """Request previews."""
        assert self.child.send(RequestPreview(width=width, fps=fps, duration_s=for_s))

    def wait_for(self, condition: Callable[[Status], bool], timeout_s: float = PATIENCE_S) -> Status:
        """Return the next status that meets the condition.

        The search includes statuses that no earlier call has checked.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._seen = max(self._seen, len(self.statuses) - 1)
            while self._changed.wait_for(lambda: len(self.statuses) > self._seen, deadline - time.monotonic()):
                self._seen += 1
                if condition(self.statuses[self._seen - 1]):
                    return self.statuses[self._seen - 1]
        raise AssertionError(f"not within {timeout_s} s: {self.statuses[-1:]}")

    def wait_for_state(self, state: str) -> Status:
        """Return the next status in this state."""
        return self.wait_for(lambda status: status.state == state)

    def end(self) -> None:
        """Request a stop. If the worker does not exit, kill it."""
        self.child.send(Drain())
        if not self.child.ended_within(10):
            self.child.kill()
        self._ended.set()
        self._thread.join()
        self.child.close()


def counted(status: Status, metric: str, **labels: str) -> float:
    """Return the value of a counter in a status: the sum of all series with at least these labels."""
    return series_sum(status.metrics.counters, metric, labels)


def worker_settings(camera: Camera, service: str, redis: str, *, paused: bool = False) -> CameraWorkerSettings:
    """Return the settings of a worker that sends frames to `service`, a WebSocket URL without a path."""
    return CameraWorkerSettings(
        camera=camera,
        site="test",
        service=ServiceEndpoint(url=f"{service}/v1/object-detection", key=KEY, options=RequestOptions(), direct=True),
        stream=RedisSettings(url=redis, prefix="nvision", max_entries=1000),
        paused=paused,
    )


@pytest.fixture
def start_worker() -> Iterator[Callable[..., CameraWorker]]:
    """Start a worker: `start_worker(url, recorder, redis, fps=5)`. The keywords are settings as in cameras.yaml."""
    started: list[CameraWorker] = []

    def start(url: str, recorder: Recorder, redis: Server, *, paused: bool = False, **settings: Any) -> CameraWorker:
        camera = Camera.model_validate({"id": "lobby", "url": url, **settings})
        worker = CameraWorker(settings=worker_settings(camera, recorder.url, redis.url, paused=paused))
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.end()
