"""Worker of one camera: connects the stages and reports their status to the supervisor.

The capture thread demuxes, decodes and encodes with libraries that release the GIL. The main thread runs the event
loop, which handles the uplink, results, Redis and status reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.broker.publisher import Publisher
from nvision_hub.cluster.camera_lease import Lease
from nvision_hub.cluster.rejected_entries import RejectedEntries
from nvision_hub.logs.formatters import LoggedState
from nvision_hub.media.memory_limits import MemoryReserve, cap_memory
from nvision_hub.media.sources import CameraTrust, KnownCertificates
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter, RateWindow
from nvision_hub.nvision.result_events import EventOrigin, new_id, result_event
from nvision_hub.runtime import sandbox
from nvision_hub.runtime.messages import (
    Configure,
    ConnectSlotGranted,
    FramesAnswered,
    ReconnectTurnGranted,
    RequestPreview,
)
from nvision_hub.runtime.process_stats import ProcessStats
from nvision_hub.runtime.status import CameraInfo, CameraState, Deadline, Status
from nvision_hub.runtime.worker import DrainStep, run_worker
from workers.camera.capture import Capture
from workers.camera.connection_turns import ConnectSlot, ReconnectTurn
from workers.camera.image_permits import ImagePermits
from workers.camera.latest_frame import LatestFrameSlot
from workers.camera.previews import PreviewPublisher
from workers.camera.run_control import RunControl
from workers.camera.scheduled_rate import RateMonitor, ScheduledRate
from workers.camera.tracks import CameraTracks
from workers.camera.uplink import Uplink

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from nvision_hub.nvision.nvision_pb2 import NvisionRequest
    from nvision_hub.nvision.result_events import SentFrame
    from nvision_hub.runtime.messages import Message
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
    from workers.camera.settings import CameraWorkerSettings

LOOP_TIMEOUT_S: Final = 10.0
ANSWERS_TIMEOUT_S: Final = 1.5  # time for which a stopping worker waits for results
REDIS_TIMEOUT_S: Final = 1.0  # time for which a stopping worker publishes results
NAME_CHARACTERS: Final = 64
NAMES_SHOWN: Final = 20
NAMES_COUNTED: Final = 200  # more names than COCO has; the limit keeps a status report small enough for its pipe


def run(settings: CameraWorkerSettings, pipe: SupervisorPipe) -> None:
    reserve = MemoryReserve()
    cap_memory()
    restrict(settings)
    asyncio.run(_Worker(settings, pipe, reserve).run())


def restrict(settings: CameraWorkerSettings) -> None:
    """Enter the sandbox. Call this function before the worker connects to the camera."""
    address = settings.camera.address
    readable = [Path(__file__).parents[1]]  # modules that are not loaded yet
    if address.kind == "file":
        readable.append(Path(address.path).parent)  # the directory, because a new file may replace the file
    # Allow the directories of the TLS files, because a renewed certificate is a new file.
    readable += [file.parent for file in settings.stream.tls_files]
    writable = [] if settings.spool is None else [settings.spool.path.parent]
    if settings.certificates is not None:
        writable.append(settings.certificates)
    sandbox.restrict(readable=readable, writable=writable)


class _Worker:
    def __init__(self, settings: CameraWorkerSettings, pipe: SupervisorPipe, reserve: MemoryReserve) -> None:
        self._settings = settings
        self._pipe = pipe
        self._reserve = reserve
        self._meter = Meter()
        self._stats = ProcessStats(self._meter)
        self._rate = ScheduledRate(
            [entry.window for entry in settings.camera.schedule],
            settings.time_zone,
            fps=settings.camera.fps,
            is_paused=settings.paused,
            wall=time.time(),
        )
        self._control = RunControl(paused=self._rate.is_paused)
        self._rate_in, self._rate_out, self._rate_monitor = RateWindow(), RateWindow(), RateMonitor()
        self._state = CameraState.STARTING
        self._since = time.time()  # when the worker entered `_state`, in seconds since the epoch
        self._last_result: float | None = None  # seconds since the epoch
        self._seen: list[str] = []  # names in the last result, for `status` and the page
        self._names: set[str] = set()  # detection names that have their own metric label
        rejected = RejectedEntries(self._meter)
        self._lease = None if settings.lease is None else Lease(settings.lease, settings.camera.id, rejected)
        self._origin = EventOrigin(
            site=settings.site,
            camera=settings.camera.id,
            labels=dict(settings.camera.labels),
            service=settings.camera.nvision.service,
        )

    async def run(self) -> None:
        camera, slot = self._settings.camera, LatestFrameSlot()
        self._publisher = Publisher(self._settings.stream, self._meter, self._settings.spool)
        self._connect_slot = ConnectSlot(self._pipe.request)
        self._reconnect_turn = ReconnectTurn(self._pipe.request, self._settings.service.url)
        self._capture = Capture(
            camera=camera,
            meter=self._meter,
            deliver=slot.put,
            control=self._control,
            connect_slot=self._connect_slot,
            trust=CameraTrust(
                certificates=KnownCertificates(self._settings.certificates), hosts=self._settings.camera_hosts
            ),
        )
        self._capture.fps = self._rate.fps
        access = self._settings.ledger
        self._permits = None if access is None else ImagePermits(access)
        self._previews = PreviewPublisher(self._settings.stream, camera.id)
        self._tracks = CameraTracks(self._settings, self._origin, self._meter, self._label)
        lease = self._lease
        self._uplink = Uplink(
            service=self._settings.service,
            source_id=camera.id,
            fps=self._rate.fps,
            slot=slot,
            meter=self._meter,
            on_result=self._receive,
            on_sent=self._previews.push,
            paused=self._control.paused,
            reconnect_turn=self._reconnect_turn,
            permits=self._permits,
            may_send=(lambda _now: True) if lease is None else lease.is_held,
        )
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        self._capturing: asyncio.Future[None] = loop.create_future()
        # The thread is a daemon, because a thread that hangs in a driver must not prevent the process from ending.
        threading.Thread(target=self._run_capture, name="capture", daemon=True).start()
        tasks: dict[str, Coroutine[Any, Any, None] | asyncio.Future[None]] = {
            "capture": self._capturing,
            "publisher": self._publisher.run(),
            "uplink": self._uplink.run(),
            "previews": self._previews.run(),
            "tracks": self._tracks.run(),
        }
        if self._permits is not None:
            self._apply_rate()
            tasks["permits"] = self._permits.run()
        if self._rate.has_schedule:
            tasks["schedule"] = self._rate.follow(self._apply_rate)
        if lease is not None:
            tasks["lease"] = lease.run()
        await run_worker(
            self._pipe,
            self._snapshot,
            tasks=tasks,
            on_message=self._on_message,
            drain=[
                DrainStep(run=self._stop, timeout_s=1.0, after_failure=True),
                DrainStep(run=lambda: self._uplink.drain(ANSWERS_TIMEOUT_S), timeout_s=2 * ANSWERS_TIMEOUT_S),
                "uplink",  # ends before the publisher, so that every received result is counted
                "lease",  # after this step, another hub may send frames
                DrainStep(run=self._tracks.end_all, timeout_s=1.0),  # after a failure, the next worker continues them
                DrainStep(run=self._drain_publishers, timeout_s=3 * REDIS_TIMEOUT_S, after_failure=True),
            ],
        )

    async def _drain_publishers(self) -> None:
        await asyncio.gather(self._publisher.drain(REDIS_TIMEOUT_S), self._tracks.drain(REDIS_TIMEOUT_S))

    async def _stop(self) -> None:
        self._reserve.release()
        self._control.stop()
        self._connect_slot.wake()

    def _run_capture(self) -> None:
        """Run the capture. An error that `Capture` cannot handle, such as `MemoryError`, ends the worker."""
        try:
            self._capture.run()
        except Exception as error:  # noqa: BLE001 - raised again by `run_worker`
            self._reserve.release()  # reporting the error requires some memory
            with contextlib.suppress(RuntimeError):  # the event loop has already ended
                self._capturing.get_loop().call_soon_threadsafe(self._fail, error)

    def _fail(self, error: Exception) -> None:
        if not self._capturing.done():
            self._capturing.set_exception(error)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """On `MemoryError`, end the worker, so that it restarts. By default, asyncio would only close a connection."""
        if isinstance(error := context.get("exception"), MemoryError):
            self._reserve.release()
            self._fail(error)
        else:
            loop.default_exception_handler(context)

    def _on_message(self, message: Message) -> None:
        match message:
            case Configure():
                self._rate.configure(fps=message.fps, is_paused=message.paused)
                fps = self._rate.fps
                self._capture.configure(fps=fps, jpeg_quality=message.jpeg_quality, max_width=message.max_width)
                self._uplink.configure(fps=fps, confidence_threshold=message.confidence_threshold)
                self._apply_rate()
            case RequestPreview(width=width, fps=fps, duration_s=duration_s):
                self._previews.request(width=width, fps=fps, for_s=duration_s)
            case FramesAnswered(frames=frames):
                self._tracks.add_posted(self._uplink.on_callback(frames))
            case ConnectSlotGranted():
                self._connect_slot.wake()
            case ReconnectTurnGranted(delay_s=delay_s):
                self._reconnect_turn.on_granted(delay_s)

    def _apply_rate(self) -> None:
        self._capture.fps = self._uplink.fps = self._rate.fps
        self._pause(self._rate.is_paused)
        if self._permits is not None:
            self._permits.set_fps(0.0 if self._control.paused else self._rate.fps)

    def _pause(self, paused: bool) -> None:  # noqa: FBT001 - it is a setting
        if paused is self._control.paused:
            return
        if paused:
            self._control.pause()
            self._connect_slot.wake()
        else:
            self._control.resume()
        self._uplink.set_paused(paused)
        self._pipe.report(self._snapshot())  # report immediately, because an operator waits for the change

    def _receive(self, result: NvisionRequest, sent: SentFrame) -> None:
        self._last_result = now = time.time()
        event = result_event(result, sent, self._origin, received_at=now)
        found = [*result.detected_objects, *result.detected_faces]
        for detection in found:
            self._meter.count(catalogue.DETECTIONS_TOTAL, name=self._label(detection.name))
        self._seen = [detection.name[:NAME_CHARACTERS] for detection in found[:NAMES_SHOWN]]
        self._publisher.publish(self._origin.camera, event)
        self._tracks.add(result, sent)

    def _label(self, name: str) -> str:
        """Return a detection's metric label. Limits the number of labels, because the service chooses the names."""
        name = name[:NAME_CHARACTERS]
        if name not in self._names and len(self._names) >= NAMES_COUNTED:
            return "other"
        self._names.add(name)
        return name

    def _current_state(self) -> CameraState:
        """Return the state that operators see. `AUTH_FAILED` may also mean that the service rejects the connection."""
        if self._control.stopped:
            return CameraState.STOPPED
        if self._control.paused:
            return CameraState.PAUSED
        state = self._capture.state
        if state is CameraState.PAUSED:  # the camera is resumed, but the capture thread has not noticed it yet
            return CameraState.CONNECTING
        if state is CameraState.STREAMING and self._uplink.refused:
            return CameraState.AUTH_FAILED
        if state is CameraState.STREAMING and (self._uplink.error or self._lease_error):
            return CameraState.CONNECTING
        return state

    @property
    def _lease_error(self) -> str | None:
        """Message that says why no frame may be sent; None while frames may be sent."""
        return None if self._lease is None else self._lease.error

    def _snapshot(self) -> Status:
        now = time.monotonic()
        state = self._current_state()
        away = None if state is CameraState.PAUSED else self._capture.error or self._uplink.error or self._lease_error
        is_streaming = state is CameraState.STREAMING
        degraded = (self._capture.motion_error or self._capture.late) if is_streaming else None
        error = away or self._publisher.error or self._tracks.error or degraded
        if state is not self._state:
            self._announce(state, error)
        meter = self._meter
        meter.set_gauge(catalogue.RESULTS_WAITING, self._publisher.results_waiting)
        meter.set_gauge(catalogue.UPLINK_UP, int(self._uplink.connected))
        if self._capture.moving is not None:
            meter.set_gauge(catalogue.MOTION_ACTIVE, self._capture.moving)
        is_idle = self._settings.camera.motion.source == "onvif" and self._capture.moving is False
        meter.set_gauge(catalogue.CAMERA_IDLE, is_idle)
        meter.set_gauge(catalogue.CAMERA_TARGET_FPS, 0.0 if self._control.paused else self._rate.fps)
        self._stats.update()
        info = self._info(now)
        self._tracks.report(state, now, is_limited=info.limited_by is not None)
        slow = self._rate_monitor.update(info, is_streaming=is_streaming, now=now)
        return Status(
            state=state,
            ready=state in {CameraState.STREAMING, CameraState.PAUSED},
            error=error or slow,
            deadlines={"capture": self._capture.deadline(), "event loop": Deadline(at=now, timeout_s=LOOP_TIMEOUT_S)},
            metrics=meter.snapshot(),
            info=info,
        )

    def _info(self, now: float) -> CameraInfo:
        meter = self._meter
        return CameraInfo(
            since=self._since,
            fps=self._capture.fps,
            scheduled=self._rate.text,
            limited_by=None if self._permits is None else self._permits.limited_by(now),
            paused=self._control.paused,
            moving=self._capture.moving,
            profile=self._capture.profile,
            decoder=self._capture.decoder,
            rate_in=self._rate_in.update(now, meter.value(catalogue.PACKETS_RECEIVED_TOTAL)),
            rate_out=self._rate_out.update(now, meter.value(catalogue.FRAMES_SENT_TOTAL)),
            sent=meter.value(catalogue.FRAMES_SENT_TOTAL),
            dropped=meter.total(catalogue.FRAMES_DROPPED_TOTAL),
            last_result_at=self._last_result,
            seen=tuple(self._seen),
            last_frame_at=meter.gauge_value(catalogue.LAST_FRAME_TIMESTAMP_SECONDS),
            last_frame_id=self._uplink.last_frame_id,
            gop_s=self._capture.gop_s,
        )

    def _announce(self, state: CameraState, error: str | None) -> None:
        self._publisher.announce(
            self._origin.camera,
            {
                "id": new_id(),
                "kind": "camera_state",
                "site": self._origin.site,
                "camera": self._origin.camera,
                "from": self._state,
                "state": state,
                "error": error,
            },
        )
        self._state, self._since = state, time.time()
        LoggedState.current = state
