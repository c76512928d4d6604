"""Test harness for a camera's capture. It runs a real source in a thread, and records its frames and states."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.config.models import Camera
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from tests.support import counter
from tests.support.patience import PATIENCE_S
from workers.camera.capture import Capture
from workers.camera.run_control import RunControl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvision_hub.runtime.status import CameraState
    from workers.camera.connection_turns import ConnectSlot
    from workers.camera.latest_frame import EncodedFrame


@dataclass(frozen=True, kw_only=True, slots=True)
class CapturedFrame:
    """One captured frame. `at` is CLOCK_MONOTONIC at the time of capture."""

    at: float
    frame: EncodedFrame

    @property
    def number(self) -> int | None:
        """The number in the frame; None if the frame has no number."""
        return counter.of_jpeg(self.frame.jpeg)


@dataclass(kw_only=True)
class _ObservedCapture(Capture):
    """A capture that reports each change of its state."""

    on_state: Callable[[CameraState], None]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "state" and "_reconnects" in self.__dict__:  # skip the initial state from the constructor
            self.on_state(value)


@dataclass(kw_only=True)
class Watching:
    """One camera under observation."""

    camera: Camera
    connect_slot: ConnectSlot | None = None
    frames: list[CapturedFrame] = field(default_factory=list)
    states: list[tuple[float, CameraState, str | None]] = field(default_factory=list)  # (time, state, error)
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self.control = RunControl()
        self.capture = _ObservedCapture(
            camera=self.camera,
            meter=self.meter,
            deliver=self._deliver,
            control=self.control,
            connect_slot=self.connect_slot,
            on_state=self._on_state,
        )
        self._thread = threading.Thread(target=self.capture.run, daemon=True)
        self.began = time.monotonic()
        self._thread.start()

    def _deliver(self, frame: EncodedFrame) -> bool:
        with self._changed:
            self.frames.append(CapturedFrame(at=time.monotonic(), frame=frame))
            self._changed.notify_all()
        return False

    def _on_state(self, state: CameraState) -> None:
        with self._changed:
            self.states.append((time.monotonic(), state, self.capture.error))
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], deadline_s: float = PATIENCE_S) -> None:
        """Wait until the condition is true. After `deadline_s`, fail with the current state."""
        with self._changed:
            if not self._changed.wait_for(condition, deadline_s):
                raise AssertionError(
                    f"not met within {deadline_s} s: {len(self.frames)} frames, {self.states}, "
                    f"{self.capture.error}, {self.meter.snapshot().counters}"
                )

    def wait_for(self, frames: int, deadline_s: float = PATIENCE_S) -> None:
        """Wait until this many more frames have arrived."""
        wanted = len(self.frames) + frames
        self.wait_until(lambda: len(self.frames) >= wanted, deadline_s)

    def wait_for_state(self, state: str, deadline_s: float = PATIENCE_S, *, since: float = 0.0) -> tuple[float, str]:
        """Wait until the camera enters a state at `since` or later. Return the time of the change, and the error."""
        found: list[tuple[float, str]] = []

        def entered() -> bool:
            found[:] = [(at, error or "") for at, seen, error in self.states if seen == state and at >= since]
            return bool(found)

        self.wait_until(entered, deadline_s)
        return found[0]

    def watch_for(self, seconds: float) -> list[CapturedFrame]:
        """Wait for `seconds`. Return the frames that arrived in this time."""
        begin = time.monotonic()
        self._thread.join(seconds)
        return [frame for frame in list(self.frames) if frame.at >= begin]

    def dropped(self, reason: str) -> float:
        """Return the number of frames dropped for this reason."""
        return self.meter.value(catalogue.FRAMES_DROPPED_TOTAL, reason=reason)

    def stop(self) -> float:
        """Stop the capture. Return the seconds that the stop took."""
        began = time.monotonic()
        self.control.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return time.monotonic() - began

    def leave(self) -> None:
        """Request the stop without waiting."""
        self.control.stop()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watching]]:
    """Watch a camera: `watch(url, fps=5, stall_timeout=2)`. The keywords are settings as in cameras.yaml."""
    started: list[Watching] = []

    def start(url: str, *, connect_slot: ConnectSlot | None = None, **settings: Any) -> Watching:
        camera = Camera.model_validate({"id": "watched", "url": url, "stall_timeout": 2, **settings})
        watching = Watching(camera=camera, connect_slot=connect_slot)
        started.append(watching)
        return watching

    yield start
    for watching in started:
        watching.leave()
    for watching in started:
        watching.stop()
