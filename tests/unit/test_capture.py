"""The capture thread's answer to a want of memory, and that it holds no stream that it has let go of."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from nvision_hub.config import Camera
from nvision_hub.status import CameraState, Meter
from workers.camera import capture
from workers.camera.capture import Capture
from workers.camera.source import SourceError, StreamFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.camera.source import Packet

CAMERA = Camera.model_validate({"id": "lobby", "url": "rtsp://127.0.0.1/cam", "fps": 5})


class Always:
    """Packets that never come. Each error is new, since one that is kept keeps the stream, too."""

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
    """A stream that opens, and whose first packet is an error."""

    error: Callable[[], Exception]
    facts: StreamFacts = field(
        default_factory=lambda: StreamFacts(codec="h264", width=640, height=360, fps=25.0, decoder="software")
    )

    def packets(self) -> Iterator[Packet]:
        return iter(Always(self.error))

    def close(self) -> None: ...


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Exception]], list[weakref.ref[Breaking]]]:
    """Make every stream one that breaks; those that were opened."""

    def make(error: Callable[[], Exception]) -> list[weakref.ref[Breaking]]:
        opened = []

        def open_source(_camera: Camera) -> Breaking:
            source = Breaking(error=error)
            opened.append(weakref.ref(source))
            return source

        monkeypatch.setattr(capture, "open_source", open_source)
        return opened

    return make


class StoppedAtFirstWait(threading.Event):
    """What the thread waits on between two tries; the first wait is the end."""

    def __init__(self, at_wait: Callable[[], None]) -> None:
        super().__init__()
        self._at_wait = at_wait

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._at_wait()
            self.set()
        return super().wait(timeout)


@pytest.mark.parametrize(
    ("error", "state", "sentence"),
    [
        (stalled, "stalled", "the camera has sent nothing"),
        (MemoryError, "unsupported", "rtsp://127.0.0.1/cam takes more memory than a camera may have"),
    ],
)
def test_no_stream_is_held_while_the_next_try_is_waited_for(
    breaking: Callable[[Callable[[], Exception]], list[weakref.ref[Breaking]]],
    error: Callable[[], Exception],
    state: str,
    sentence: str,
) -> None:
    opened, seen = breaking(error), []
    stop = StoppedAtFirstWait(lambda: seen.append((thread.state, thread.error, [each() for each in opened])))
    thread = Capture(camera=CAMERA, meter=Meter(), deliver=lambda _frame: 0, stop=stop)
    thread.run()
    [(seen_state, seen_error, alive)] = seen
    assert seen_state == state
    assert (seen_error or "").startswith(sentence)
    assert alive == [None]


def test_a_process_that_gets_no_memory_back_is_ended(
    breaking: Callable[[Callable[[], Exception]], list[weakref.ref[Breaking]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(MemoryError)

    def check_memory(*, for_any_camera: bool = False) -> None:
        if for_any_camera:
            raise MemoryError("less than 768 MiB are left")

    monkeypatch.setattr(capture, "check_memory", check_memory)
    thread = Capture(camera=CAMERA, meter=Meter(), deliver=lambda _frame: 0, stop=threading.Event())
    with pytest.raises(MemoryError, match="less than 768 MiB"):
        thread.run()
