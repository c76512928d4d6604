"""Control of one camera from the event loop: stop, pause and resume.

The capture thread waits on the two events of `RunControl` and for the connect slot. A stop or a pause ends each wait.
"""

from __future__ import annotations

import threading


class RunControl:
    """Thread-safe state that says whether the camera should stream."""

    def __init__(self, *, paused: bool = False) -> None:
        self._lock = threading.Lock()
        self.stopped = False  # becomes True only once: a stop is permanent
        self.paused = paused
        self.interrupted = threading.Event()  # set while the camera is stopped or paused
        self.resumed = threading.Event()  # set while the camera is not paused, and from the time it is stopped
        self._update()

    def stop(self) -> None:
        self._update(stopped=True)

    def pause(self) -> None:
        self._update(paused=True)

    def resume(self) -> None:
        self._update(paused=False)

    def _update(self, *, stopped: bool = False, paused: bool | None = None) -> None:
        with self._lock:
            self.stopped = self.stopped or stopped
            self.paused = self.paused if paused is None else paused
            is_interrupted = self.stopped or self.paused
            (self.interrupted.set if is_interrupted else self.interrupted.clear)()
            (self.resumed.set if self.stopped or not self.paused else self.resumed.clear)()
