"""The smallest harness around a camera's capture: a thread with a real source, whose pictures and states are kept."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.config import Camera
from nvision_hub.status import CameraState, Meter
from tests.support import counter
from workers.camera.capture import Capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.camera.mailbox import Frame
    from workers.camera.turnstile import Turnstile

_DEADLINE_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One picture as it left capture. `at` is CLOCK_MONOTONIC then."""

    at: float
    frame: Frame

    @property
    def number(self) -> int | None:
        """The number burnt in, None where it shows none."""
        return counter.of_jpeg(self.frame.jpeg)


@dataclass(kw_only=True)
class _Told(Capture):
    """A capture that tells of each state as it is entered."""

    tell: Callable[[CameraState], None]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "state" and "_retries" in self.__dict__:  # not of the first, before it is complete
            self.tell(value)


@dataclass(kw_only=True)
class Watching:
    """One camera being watched."""

    camera: Camera
    turnstile: Turnstile | None = None
    pictures: list[Picture] = field(default_factory=list)
    states: list[tuple[float, CameraState, str | None]] = field(default_factory=list)  # with the sentence then
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self._news = threading.Condition()
        self._stop = threading.Event()
        self.capture = _Told(
            camera=self.camera,
            meter=self.meter,
            deliver=self._deliver,
            stop=self._stop,
            turnstile=self.turnstile,
            tell=self._tell,
        )
        self._thread = threading.Thread(target=self.capture.run, daemon=True)
        self.began = time.monotonic()
        self._thread.start()

    def _deliver(self, frame: Frame) -> bool:
        with self._news:
            self.pictures.append(Picture(at=time.monotonic(), frame=frame))
            self._news.notify_all()
        return False

    def _tell(self, state: CameraState) -> None:
        with self._news:
            self.states.append((time.monotonic(), state, self.capture.error))
            self._news.notify_all()

    def wait_until(self, condition: Callable[[], bool], deadline_s: float = _DEADLINE_S) -> None:
        """Wait for news until the condition holds; fails after `deadline_s` with what is known then."""
        with self._news:
            if not self._news.wait_for(condition, deadline_s):
                raise AssertionError(
                    f"not met within {deadline_s} s: {len(self.pictures)} pictures, {self.states}, "
                    f"{self.capture.error}, {self.meter.snapshot()['counters']}"
                )

    def wait_for(self, pictures: int, deadline_s: float = _DEADLINE_S) -> None:
        """Wait for so many more pictures."""
        wanted = len(self.pictures) + pictures
        self.wait_until(lambda: len(self.pictures) >= wanted, deadline_s)

    def wait_for_state(self, state: str, deadline_s: float = _DEADLINE_S, *, since: float = 0.0) -> tuple[float, str]:
        """When a state was entered, at `since` or later, and the sentence that came with it."""
        found: list[tuple[float, str]] = []

        def entered() -> bool:
            found[:] = [(at, error or "") for at, seen, error in self.states if seen == state and at >= since]
            return bool(found)

        self.wait_until(entered, deadline_s)
        return found[0]

    def watch_for(self, seconds: float) -> list[Picture]:
        """The pictures of the next seconds."""
        begin = time.monotonic()
        self._stop.wait(seconds)
        return [picture for picture in list(self.pictures) if picture.at >= begin]

    def dropped(self, reason: str) -> float:
        """How many pictures were dropped for it."""
        return self.meter.value("frames_dropped_total", reason=reason)

    def stop(self) -> float:
        """Ask it to end; the seconds that it took."""
        began = time.monotonic()
        self._stop.set()
        self._thread.join(_DEADLINE_S)
        assert not self._thread.is_alive()
        return time.monotonic() - began

    def leave(self) -> None:
        """Ask it to end, and do not wait."""
        self._stop.set()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watching]]:
    """Watch a camera: `watch(url, fps=5, stall_timeout=2)`; further settings as in cameras.yaml."""
    started: list[Watching] = []

    def start(url: str, *, turnstile: Turnstile | None = None, **settings: Any) -> Watching:
        camera = Camera.model_validate({"id": "watched", "url": url, "stall_timeout": 2, **settings})
        watching = Watching(camera=camera, turnstile=turnstile)
        started.append(watching)
        return watching

    yield start
    for watching in started:
        watching.leave()
    for watching in started:
        watching.stop()
