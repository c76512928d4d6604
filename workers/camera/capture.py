"""The capture thread: opens the camera, views it, encodes, and leaves the newest JPEG in the mailbox.

It alone retries the source; every wait is on the stop event, so that a stop is never late. It knows nothing of where
pictures go.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.errors import UnavailableError
from nvision_hub.logs import note_state
from nvision_hub.status import CameraState, Promise
from workers.camera.encoder import EncodeError, Encoder
from workers.camera.limits import check_memory
from workers.camera.mailbox import Frame
from workers.camera.retries import Retries
from workers.camera.sentry import Sentry
from workers.camera.source import OPEN_WITHIN_S, SourceError, open_source
from workers.camera.viewing import Viewing

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.config import Camera
    from nvision_hub.status import Meter
    from workers.camera.lateness import Lateness
    from workers.camera.source import Source
    from workers.camera.turnstile import Turnstile

log = logging.getLogger("nvision_hub.camera")

# FFmpeg may take the time to open twice, to connect and to find out what comes; a source that is asked for every
# picture sleeps as long as these are apart. Beyond that the thread is stuck.
STUCK_MARGIN_S: Final = 5.0
PAUSE_LOOKED_EVERY_S: Final = 0.5
MEMORY_LOOKED_EVERY_S: Final = 2.0  # while packets come and no picture does


@dataclass(kw_only=True)
class Capture:
    """The thread's body (`run`) and what others may read of it. One thread writes, the event loop reads."""

    camera: Camera
    meter: Meter
    deliver: Callable[[Frame], int]  # how many frames that were never taken it has overwritten
    stop: threading.Event
    turnstile: Turnstile | None = None  # None: dialled at once
    paused: threading.Event = field(default_factory=threading.Event)  # while set, the camera is let go of
    state: CameraState = CameraState.CONNECTING
    error: str | None = None
    progress: float = 0.0  # monotonic seconds of the last sign that the thread moves
    gop_s: float | None = None
    moving: bool | None = None  # None where nobody looks
    decoder: str | None = None  # what decodes: "software" or a device; None before the camera was open
    late: str | None = None  # a sentence, where pictures come too late; None while they do not

    def __post_init__(self) -> None:
        self.progress = time.monotonic()
        self.fps = self.camera.fps
        self._retries = Retries()
        self._pictured = self.progress  # monotonic seconds of the last good picture, or of the stream's beginning
        self._memory_looked = self.progress  # monotonic seconds
        self._broken: str | None = None  # what is wrong with every picture since the last good one
        self._encoder = Encoder(
            quality=self.camera.jpeg_quality, max_width=self.camera.max_width, masks=self.camera.masks
        )

    def tune(self, *, fps: float, jpeg_quality: int, max_width: int | None) -> None:
        """Take up new settings from the next picture on."""
        self.fps = fps
        self._encoder.quality, self._encoder.max_width = jpeg_quality, max_width

    def promise(self) -> Promise:
        """How long the thread may show no progress."""
        opening_s = 2 * max(self.camera.stall_timeout, OPEN_WITHIN_S)
        return Promise(at=self.progress, within_s=max(opening_s, 1 / self.fps) + STUCK_MARGIN_S)

    def run(self) -> None:
        """Until `stop` is set. Raises `MemoryError` where the process has none left, whatever the camera sends."""
        while not self.stop.is_set():
            failure: tuple[CameraState, str] | None = None
            out_of_memory = False
            try:
                self._rest()
                self._stream()
            except SourceError as error:
                failure = error.state, str(error)
            except UnavailableError as error:
                failure = CameraState.UNSUPPORTED, str(error)
            except MemoryError:
                out_of_memory = True
            # Not above, where the error's traceback still holds the stream and all its pictures.
            if out_of_memory:
                check_memory(for_any_camera=True)
                name = self.camera.address.shown
                sentence = f"{name} takes more memory than a camera may have; choose a stream of smaller pictures"
                failure = CameraState.UNSUPPORTED, sentence
            if failure is not None:
                self._fail(*failure)
        self._enter(CameraState.STOPPED)

    def _rest(self) -> None:
        """While paused."""
        if not self.paused.is_set():
            return
        self.error = None
        self._enter(CameraState.PAUSED)
        while self.paused.is_set() and not self.stop.wait(PAUSE_LOOKED_EVERY_S):
            self.progress = time.monotonic()
        self._enter(CameraState.CONNECTING)

    def _enter(self, state: CameraState) -> None:
        if state is not self.state:
            note_state(state)
            log.info("%s", state)
        self.state, self.progress = state, time.monotonic()

    def _fail(self, state: CameraState, sentence: str) -> None:
        delay_s = self._retries.next_s(state)
        self.meter.count("camera_reconnects_total", reason=str(state))
        if sentence != self.error:
            log.warning("%s (next try in %.0f s)", sentence, delay_s)
        self.error = sentence
        self._enter(state)
        until = time.monotonic() + delay_s
        while not self.stop.wait(min(5.0, max(0.0, until - time.monotonic()))) and time.monotonic() < until:
            self.progress = time.monotonic()

    def _open(self) -> Source | None:
        """The camera, dialled when it is its turn; None where a stop came first."""
        with self.turnstile.passed(self.stop) if self.turnstile else contextlib.nullcontext():
            self.progress = time.monotonic()
            check_memory()
            return None if self.stop.is_set() or self.paused.is_set() else open_source(self.camera)

    def _stream(self) -> None:
        source = self._open()
        if source is None:
            return
        self.late = None
        with contextlib.closing(source):
            self._pictured = time.monotonic()
            self.decoder = source.facts.decoder
            viewing = Viewing(
                source=source,
                fps=self.fps,
                meter=self.meter,
                show=self._deliver,
                wanted=self._wanted,
                sentry=Sentry(self.camera) if self.camera.when == "motion" else None,
            )
            for packet in source.packets():
                if not self._wanted():
                    return
                self.meter.count("packets_received_total")
                viewing.take(packet, self.fps)
                self.gop_s, self.moving = viewing.gop_s, viewing.moving
                self._pictured = max(self._pictured, viewing.looked)
                self._check_pictures(packet.arrived)
                self._check_lateness(viewing.lateness)

    def _check_lateness(self, lateness: Lateness) -> None:
        sentence = lateness.sentence()
        if sentence is not None and self.late is None:
            log.warning("%s", sentence)
        self.late = sentence

    def _wanted(self) -> bool:
        """Whether pictures are; asked as often as something moves on."""
        self.progress = time.monotonic()
        return not (self.stop.is_set() or self.paused.is_set())

    def _check_pictures(self, now: float) -> None:
        """Give up a stream that comes and shows nothing: no keyframe, nothing whole, no picture, no memory for one."""
        without_s = now - self._pictured
        if now - max(self._pictured, self._memory_looked) > MEMORY_LOOKED_EVERY_S:
            self._memory_looked = now
            check_memory()
        if without_s > max(2 * self.camera.stall_timeout, 3 / self.fps, 2 * (self.gop_s or 0.0)):
            broken, self._broken = self._broken, None
            if broken is not None:
                raise SourceError(CameraState.UNSUPPORTED, f"{self.camera.address.shown}: {broken}")
            raise SourceError(
                CameraState.STALLED,
                f"{self.camera.address.shown} sends data, but no whole picture for {without_s:.0f} s; "
                "check the network to it, or set a shorter keyframe interval in the camera",
            )

    def _deliver(self, picture: Any, at: float, behind: bool) -> None:  # noqa: FBT001 - `Viewing` says it so
        try:
            jpeg = self._encoder.encode(picture)
        except EncodeError as error:
            self._broken = str(error)
            self.meter.count("frames_dropped_total", reason="broken")
            return
        self._pictured, self._broken = time.monotonic(), None
        self._retries.healthy(self._pictured)
        if self.state is not CameraState.STREAMING:
            self.error = None
            self._enter(CameraState.STREAMING)
        frame = Frame(
            jpeg=jpeg.data,
            width=jpeg.width,
            height=jpeg.height,
            captured_mono=at,
            captured_at=time.time() - (time.monotonic() - at),
            behind=behind,
        )
        self.meter.gauge("last_frame_timestamp_seconds", frame.captured_at or 0.0)
        if overwritten := self.deliver(frame):
            self.meter.count("frames_dropped_total", by=overwritten, reason="overwritten")
