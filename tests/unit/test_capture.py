"""The capture thread: lack of memory, freed streams, waits that end immediately, and new settings."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nvision_hub.config.models import Camera
from nvision_hub.media.decode.decode_planner import BUDGET_EXCESS, BUDGET_WINDOW_S
from nvision_hub.media.encode.jpeg_encoder import JpegEncoder
from nvision_hub.media.sources import Packet, SourceError, StreamFacts
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.status import CameraState
from tests.support.patience import PATIENCE_S
from workers.camera import capture
from workers.camera.camera_reconnects import ReconnectPolicy
from workers.camera.capture import PROGRESS_INTERVAL_S, Capture
from workers.camera.latest_frame import EncodedFrame
from workers.camera.run_control import RunControl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvision_hub.media.sources import CameraTrust, Wait

CAMERA = Camera.model_validate({"id": "lobby", "url": "rtsp://127.0.0.1/cam", "fps": 5})


class Always:
    """Iterator that always fails. Each error is a new object, because a kept error would keep the stream alive."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error = error

    def __iter__(self) -> Iterator[Packet]:
        return self

    def __next__(self) -> Packet:
        raise self._error()


def stalled() -> SourceError:
    return SourceError(CameraState.STALLED, "the camera has sent nothing")


@dataclass(kw_only=True, eq=False)
class Breaking:
    """Stream that opens and fails at its first packet."""

    error: Callable[[], Exception]
    facts: StreamFacts = field(
        default_factory=lambda: StreamFacts(codec="h264", width=640, height=360, fps=25.0, decoder="software")
    )

    def packets(self) -> Iterator[Packet]:
        return iter(Always(self.error))

    def close(self) -> None: ...


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Exception]], list[weakref.ref[Breaking]]]:
    """Replace every stream with one that fails. Return the opened streams."""

    def make(error: Callable[[], Exception]) -> list[weakref.ref[Breaking]]:
        opened = []

        def open_source(_camera: Camera, *, trust: CameraTrust, wait: Wait) -> Breaking:  # noqa: ARG001 - this stream never waits
            source = Breaking(error=error)
            opened.append(weakref.ref(source))
            return source

        monkeypatch.setattr(capture, "open_source", open_source)
        return opened

    return make


class AtFirstWait(threading.Event):
    """Event for the wait between two attempts. At the first wait, it calls `at_wait`."""

    def __init__(self, at_wait: Callable[[], None]) -> None:
        super().__init__()
        self._at_wait = at_wait

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._at_wait()
        return super().wait(timeout)


@pytest.mark.parametrize(
    ("error", "state", "sentence"),
    [
        (stalled, "stalled", "the camera has sent nothing"),
        (MemoryError, "unsupported", "rtsp://127.0.0.1/cam needs more memory than one camera may use"),
    ],
)
def test_a_closed_stream_is_freed_before_the_next_attempt(
    breaking: Callable[[Callable[[], Exception]], list[weakref.ref[Breaking]]],
    error: Callable[[], Exception],
    state: str,
    sentence: str,
) -> None:
    opened, seen, control = breaking(error), [], RunControl()

    def check_freed() -> None:
        seen.append((thread.state, thread.error, [each() for each in opened]))
        control.stop()

    control.interrupted = AtFirstWait(check_freed)
    thread = Capture(camera=CAMERA, meter=Meter(), deliver=lambda _frame: 0, control=control)
    thread.run()
    [(seen_state, seen_error, alive)] = seen
    assert seen_state == state
    assert (seen_error or "").startswith(sentence)
    assert alive == [None]


def test_a_process_without_memory_exits(
    breaking: Callable[[Callable[[], Exception]], list[weakref.ref[Breaking]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(MemoryError)

    def check_memory(*, for_any_camera: bool = False) -> None:
        if for_any_camera:
            raise MemoryError("less than 768 MiB are left")

    monkeypatch.setattr(capture, "check_memory", check_memory)
    thread = Capture(camera=CAMERA, meter=Meter(), deliver=lambda _frame: 0, control=RunControl())
    with pytest.raises(MemoryError, match="less than 768 MiB"):
        thread.run()


def test_a_pause_during_backoff_is_immediate_and_does_not_shorten_it(
    breaking: Callable[[Callable[[], Exception]], list[weakref.ref[Breaking]]],
) -> None:
    opened = breaking(lambda: SourceError(CameraState.AUTH_FAILED, "wrong password"))  # the backoff is at least 20 s
    control, waiting, resting = RunControl(), threading.Event(), threading.Event()
    control.interrupted = AtFirstWait(waiting.set)
    camera = Capture(camera=CAMERA, meter=Meter(), deliver=lambda _frame: 0, control=control)
    thread = threading.Thread(target=camera.run, daemon=True)
    thread.start()
    assert waiting.wait(PATIENCE_S)
    control.resumed = AtFirstWait(resting.set)
    control.pause()
    assert resting.wait(PATIENCE_S)
    assert (camera.state, camera.error) == (CameraState.PAUSED, None)
    waiting.clear()
    control.resume()
    assert waiting.wait(PATIENCE_S)
    assert (camera.state, camera.error) == (CameraState.AUTH_FAILED, "wrong password")
    control.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert len(opened) == 1


def test_long_waits_show_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 100.0, list[float]()

    class Clocked(threading.Event):
        """Event that is never set. Each wait advances the test's clock."""

        def wait(self, timeout: float | None = None) -> bool:
            nonlocal now
            assert timeout is not None
            waits.append(timeout)
            now += timeout
            return False

    monkeypatch.setattr(capture, "time", SimpleNamespace(monotonic=lambda: now))
    control = RunControl()
    control.interrupted = Clocked()
    camera = Capture(camera=CAMERA, meter=Meter(), deliver=lambda _frame: 0, control=control)
    progress = list[float]()
    set_attribute = Capture.__setattr__

    def record(self: Capture, name: str, value: float) -> None:
        if name == "progress":
            progress.append(value)
        set_attribute(self, name, value)

    monkeypatch.setattr(Capture, "__setattr__", record)
    assert not camera._wait(2 * PROGRESS_INTERVAL_S + 1)
    assert waits == [PROGRESS_INTERVAL_S, PROGRESS_INTERVAL_S, 1.0]
    assert progress == [105.0, 110.0, 111.0]


def test_a_frame_is_encoded_with_the_settings_at_its_start() -> None:
    class Replaced(int):
        """Width that the event loop replaces right after the encoder has compared it."""

        def __ge__(self, other: int) -> bool:
            camera.configure(fps=1, jpeg_quality=10, max_width=None)
            return super().__ge__(other)

    frames: list[EncodedFrame] = []

    def deliver(encoded: EncodedFrame) -> int:
        frames.append(encoded)
        return 0

    camera = Capture(camera=CAMERA, meter=Meter(), deliver=deliver, control=RunControl())
    camera.configure(fps=5, jpeg_quality=90, max_width=Replaced(160))
    frame = np.random.default_rng(1).integers(0, 256, (180, 320, 3), np.uint8)
    camera._encode_stage.push(frame, 0.0, is_behind=False)
    camera._encode_stage.push(frame, 0.1, is_behind=False)
    before = JpegEncoder(quality=90, max_width=160).encode(frame)
    after = JpegEncoder(quality=10, max_width=None).encode(frame)
    assert [(encoded.width, encoded.jpeg) for encoded in frames] == [(160, before.data), (320, after.data)]
    assert camera.fps == 1


def test_reconnects_do_not_raise_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first frame of each stream is due, so only a budget across streams limits a camera that reconnects often."""
    streams, began, frames = 200, time.monotonic(), list[EncodedFrame]()
    control, opened = RunControl(), list[Breaking]()

    class OneFrame(Breaking):
        """A stream that ends after one frame. The streams begin 40 ms apart."""

        def packets(self) -> Iterator[Packet]:
            at = began + 0.04 * len(opened)
            yield Packet(payload=None, arrived=at, media_s=None, keyframe=True, size_bytes=1)
            if len(opened) == streams:
                control.stop()
            raise self.error()

        def decode(self, packet: Packet, **_: bool) -> list[tuple[float | None, np.ndarray]]:
            return [(packet.media_s, np.zeros((16, 16, 3), np.uint8))]

    def open_source(_camera: Camera, *, trust: CameraTrust, wait: Wait) -> Breaking:  # noqa: ARG001 - it never waits
        opened.append(OneFrame(error=stalled))
        return opened[-1]

    def deliver(encoded: EncodedFrame) -> int:
        frames.append(encoded)
        return 0

    monkeypatch.setattr(capture, "open_source", open_source)
    monkeypatch.setattr(ReconnectPolicy, "next_s", lambda *_: 0.0)
    Capture(camera=CAMERA, meter=Meter(), deliver=deliver, control=control).run()
    assert len(opened) == streams
    assert len(frames) == int(BUDGET_EXCESS * BUDGET_WINDOW_S * CAMERA.fps) + 1


def test_a_polled_camera_is_opened_again_at_a_changed_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[float]()
    control = RunControl()

    class Polled(Breaking):
        """A source that polls once. During its first wait, the rate changes."""

        def __init__(self, wait: Wait) -> None:
            super().__init__(error=stalled)
            self._wait = wait

        def packets(self) -> Iterator[Packet]:
            polling.fps = 10.0
            if len(opened) == 2:
                control.stop()
            assert self._wait(0.0)
            return iter(())

    def open_source(camera: Camera, *, trust: CameraTrust, wait: Wait) -> Breaking:  # noqa: ARG001 - as in the product
        opened.append(camera.fps)
        return Polled(wait)

    monkeypatch.setattr(capture, "open_source", open_source)
    camera = Camera.model_validate({"id": "roof", "url": "snapshot+http://127.0.0.1/a.jpg", "fps": 5})
    polling = Capture(camera=camera, meter=Meter(), deliver=lambda _frame: 0, control=control)
    polling.run()
    assert opened == [5.0, 10.0]
