"""Capture thread: opens the camera, feeds its packets to the pipeline, and reconnects after errors.

The pipeline passes due frames to the encode stage. The source itself never reconnects. When the camera is stopped or
paused, every wait of the thread and of the source ends immediately (`run_control.py`).
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from nvision_hub.errors import UnavailableError
from nvision_hub.logs.formatters import LoggedState
from nvision_hub.media.decode.decode_planner import FrameBudget
from nvision_hub.media.decode.event_gate import EventGate
from nvision_hub.media.decode.motion_gate import MotionGate
from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.media.encode.jpeg_encoder import JpegSettings
from nvision_hub.media.memory_limits import check_memory
from nvision_hub.media.sources import (
    MAX_ONVIF_TIMEOUTS,
    MAX_OPEN_TIMEOUTS,
    OPEN_TIMEOUT_S,
    CameraTrust,
    SourceError,
    open_source,
)
from nvision_hub.media.sources.onvif.motion_events import MotionEvents
from nvision_hub.metrics import catalogue
from nvision_hub.runtime.status import CameraState, Deadline
from workers.camera.camera_reconnects import ReconnectPolicy
from workers.camera.encode_stage import EncodeStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources import Source
    from nvision_hub.metrics.meter import Meter
    from workers.camera.connection_turns import ConnectSlot
    from workers.camera.latest_frame import EncodedFrame
    from workers.camera.run_control import RunControl

log = logging.getLogger("nvision_hub.camera")

STUCK_MARGIN_S: Final = 5.0  # beyond the maximum time to open; a thread without progress for this long is stuck
PROGRESS_INTERVAL_S: Final = 5.0  # interval at which the thread reports progress during a longer wait
MEMORY_CHECK_INTERVAL_S: Final = 2.0  # interval between checks while packets arrive without a usable frame


@dataclass(kw_only=True)
class Capture:
    """Body of the capture thread (`run`) and the thread's state, which the event loop reads."""

    camera: Camera
    meter: Meter
    deliver: Callable[[EncodedFrame], int]  # returns the number of unsent frames that the frame replaced
    control: RunControl
    connect_slot: ConnectSlot | None = None  # if None, the thread connects immediately
    trust: CameraTrust = field(default_factory=CameraTrust)
    state: CameraState = CameraState.CONNECTING
    error: str | None = None
    progress: float = 0.0  # monotonic time of the last progress
    gop_s: float | None = None
    moving: bool | None = None  # None without `when: motion`
    motion_error: str | None = None  # message that says why the camera reports no motion events; None if it does
    profile: str | None = None  # media profile of an ONVIF camera; None for others, and before the camera is open
    decoder: str | None = None  # "software" or a device; None before the camera is open
    late: str | None = None  # message that says why frames are late; None while they are on time
    fps: float = field(init=False)  # frames per second to send

    def __post_init__(self) -> None:
        self.progress = time.monotonic()
        self._reconnects = ReconnectPolicy()
        self._budget = FrameBudget()  # shared by all connections, because reconnects must not raise the rate
        self._last_frame = self.progress  # monotonic time of the last good frame or motion check, or else of the start
        self._memory_checked = self.progress  # monotonic time of the last memory check
        self._encode_stage = EncodeStage(self.camera, self.meter, self.deliver)
        self._warned_of_plain_password = False
        self.fps = self.camera.fps

    def configure(self, *, fps: float, jpeg_quality: int, max_width: int | None) -> None:
        """Apply new settings from the next frame. The event loop calls this method."""
        self.fps = fps
        # A single assignment, so that no frame is encoded with a mix of old and new settings.
        self._encode_stage.encoder.settings = JpegSettings(quality=jpeg_quality, max_width=max_width)

    def deadline(self) -> Deadline:
        """Return the time by which the thread must report progress."""
        timeouts = MAX_OPEN_TIMEOUTS + (MAX_ONVIF_TIMEOUTS if self.camera.address.kind == "onvif" else 0)
        opening_s = timeouts * max(self.camera.stall_timeout, OPEN_TIMEOUT_S)
        return Deadline(at=self.progress, timeout_s=opening_s + STUCK_MARGIN_S)

    def run(self) -> None:
        """Capture until stopped. Raises `MemoryError` if the process has too little memory for any camera."""
        while not self.control.stopped:
            failure: tuple[CameraState, str] | None = None
            try:
                self._wait_out_pause()
                self._stream()
                continue
            except SourceError as error:
                failure = error.state, str(error)
            except UnavailableError as error:
                failure = CameraState.UNSUPPORTED, str(error)
            except MemoryError:
                pass
            except Exception as error:  # noqa: BLE001 - a camera may cause any error
                failure = CameraState.UNSUPPORTED, self._internal_error(error)
            if failure is None:
                # Check outside the exception handler. Inside it, the traceback would keep the stream and all its frames
                # in memory.
                check_memory(for_any_camera=True)
                sentence = "needs more memory than one camera may use; choose a stream with smaller frames"
                failure = CameraState.UNSUPPORTED, f"{self.camera.address.shown} {sentence}"
            self._fail(*failure)
        self._set_state(CameraState.STOPPED)

    def _internal_error(self, error: Exception) -> str:
        """Return a message for an unexpected error. Log where it occurred, unless the previous error was the same.

        The result omits the message of the error, because it may contain a password.
        """
        sentence = (
            f"the hub cannot handle the data of {self.camera.address.shown} (internal error: {type(error).__name__}); "
            "please report it with the traceback in this camera's log"
        )
        if sentence != self.error:
            lines = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s:\n%s", sentence, lines, extra={"event": "camera_internal_error"})
        return sentence

    def _wait_out_pause(self) -> None:
        if self.control.stopped or not self.control.paused:
            return
        self.error = None
        self._set_state(CameraState.PAUSED)
        while not self.control.resumed.wait(PROGRESS_INTERVAL_S):
            self.progress = time.monotonic()
        self._set_state(CameraState.CONNECTING)

    def _set_state(self, state: CameraState) -> None:
        if state is not self.state:
            LoggedState.current = state
            log.info("%s", state, extra={"event": "camera_state"})
        self.state, self.progress = state, time.monotonic()

    def _fail(self, state: CameraState, sentence: str) -> None:
        delay_s = self._reconnects.next_s(state)
        self.meter.count(catalogue.CAMERA_RECONNECTS_TOTAL, reason=str(state))
        if sentence != self.error:
            log.warning("%s; retrying in %.0f s", sentence, delay_s, extra={"event": "camera_failed"})
        until = time.monotonic() + delay_s
        # A pause does not shorten the delay: frequent wrong passwords could make the camera lock out the hub.
        while not self.control.stopped and (left_s := until - time.monotonic()) > 0:
            self.error = sentence
            self._set_state(state)
            if self._wait(left_s):
                self._wait_out_pause()

    def _wait(self, seconds: float, *, fps: float | None = None) -> bool:
        """Wait and report progress. Return True immediately on a stop or pause, or else False after `seconds`.

        If `fps` is given, also return True soon after `self.fps` differs from it.
        """
        until = time.monotonic() + seconds
        while True:
            left_s = until - time.monotonic()
            is_interrupted = self.control.interrupted.wait(min(max(0.0, left_s), PROGRESS_INTERVAL_S))
            is_interrupted = is_interrupted or fps not in (None, self.fps)
            self.progress = time.monotonic()
            if is_interrupted or left_s <= PROGRESS_INTERVAL_S:
                return is_interrupted

    def _stream(self) -> None:
        """Wait for the connect slot, connect to the camera, and stream until the camera is stopped or paused."""
        with self.connect_slot.held(self.control.interrupted) if self.connect_slot else contextlib.nullcontext():
            self.progress = time.monotonic()
            check_memory()
            if self.control.interrupted.is_set():
                return
            source = self._open()
        self.late = self.motion_error = None
        with contextlib.closing(source), self._motion_events() as events:
            self._warn_of_plain_password(sends=source.facts.sends_plain_password)
            self._last_frame = time.monotonic()
            self.decoder = source.facts.decoder
            self._show_profile(source.facts.profile)
            pipeline = DecodePipeline(
                source=source,
                fps=self.fps,
                meter=self.meter,
                on_frame=self._encode_stage.push,
                is_wanted=self._is_wanted,
                gate=self._gate(events),
                budget=self._budget,
            )
            for packet in source.packets():
                if not self._is_wanted():
                    return
                self.meter.count(catalogue.PACKETS_RECEIVED_TOTAL)
                pipeline.push(packet, self.fps)
                self.gop_s, self.moving = pipeline.gop_s, pipeline.is_moving
                self.motion_error = None if events is None else events.error
                if self._encode_stage.encoded > self._last_frame:
                    self._reconnects.healthy(self._encode_stage.encoded)
                    if self.state is not CameraState.STREAMING:
                        self.error = None
                        self._set_state(CameraState.STREAMING)
                self._last_frame = max(self._last_frame, self._encode_stage.encoded, pipeline.checked)
                self._check_progress(packet.arrived)
                warning = pipeline.lag.warning()
                if warning is not None and self.late is None:
                    log.warning("%s", warning, extra={"event": "camera_lagging"})
                self.late = warning

    def _gate(self, events: MotionEvents | None) -> MotionGate | EventGate | None:
        if events is not None:
            return EventGate(cooldown_s=self.camera.motion.cooldown, moved_at=events.moved_at)
        return MotionGate(self.camera) if self.camera.when == "motion" else None

    @contextlib.contextmanager
    def _motion_events(self) -> Iterator[MotionEvents | None]:
        """Subscribe to the camera's motion events. Yield None unless `motion.source` is `onvif`."""
        camera = self.camera
        if camera.when != "motion" or camera.motion.source != "onvif" or camera.address.kind != "onvif":
            yield None
            return
        with contextlib.closing(MotionEvents(camera, self.trust, self.meter)) as events:
            yield events

    def _show_profile(self, profile: str | None) -> None:
        if profile is not None and profile != self.profile:
            log.info("uses the media profile %s", profile, extra={"event": "camera_profile"})
        self.profile = profile

    def _open(self) -> Source:
        if self.camera.address.kind != "snapshot":
            return open_source(self.camera, trust=self.trust, wait=self._wait)
        # The source polls at the rate that was set when it opened, so it must end when the rate changes.
        camera = self.camera.model_copy(update={"fps": self.fps})
        return open_source(camera, trust=self.trust, wait=partial(self._wait, fps=camera.fps))

    def _warn_of_plain_password(self, *, sends: bool) -> None:
        if sends and not self._warned_of_plain_password:
            self._warned_of_plain_password = True
            log.warning(
                "%s asks for the password in plain text (Basic); set the camera to Digest or use TLS, and set "
                "`auth: digest` of this camera, so that the hub never sends the password",
                self.camera.address.shown,
                extra={"event": "camera_plain_password"},
            )

    def _is_wanted(self) -> bool:
        """Report progress. Return whether the thread should continue to stream."""
        self.progress = time.monotonic()
        return not self.control.interrupted.is_set()

    def _check_progress(self, now: float) -> None:
        """Raise an error if packets have arrived without a usable frame for too long.

        Possible causes are missing keyframes, corrupt frames, and insufficient memory for decoding.
        """
        without_s = now - self._last_frame
        if now - max(self._last_frame, self._memory_checked) > MEMORY_CHECK_INTERVAL_S:
            self._memory_checked = now
            check_memory()
        if without_s > max(2 * self.camera.stall_timeout, 3 / self.fps, 2 * (self.gop_s or 0.0)):
            broken, self._encode_stage.error = self._encode_stage.error, None
            if broken is not None:
                raise SourceError(CameraState.UNSUPPORTED, f"{self.camera.address.shown}: {broken}")
            raise SourceError(
                CameraState.STALLED,
                f"{self.camera.address.shown} has sent data, but no complete frame, for {without_s:.0f} s; "
                "check the network connection to the camera, or set a shorter keyframe interval in the camera",
            )
