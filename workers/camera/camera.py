"""Joins one camera's stages, which do not know each other, and answers for them to the supervisor.

Two threads: capture demuxes, decodes and encodes (its libraries release the GIL); the main thread runs the event loop
with uplink, results, Redis and status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.broker import Publisher
from nvision_hub.broker.lease import Lease
from nvision_hub.events import Origin, new_id, result_event
from nvision_hub.link import Command, Link, status_basis
from nvision_hub.logs import note_state
from nvision_hub.status import CameraState, Meter, Promise, Rate, Status
from nvision_hub.usage import Usage
from workers.camera.capture import Capture
from workers.camera.limits import Reserve, cap_memory
from workers.camera.mailbox import Mailbox
from workers.camera.pace import Pace
from workers.camera.previews import Previews
from workers.camera.settings import CameraSettings, retune
from workers.camera.turnstile import Turnstile
from workers.camera.uplink import Uplink

if TYPE_CHECKING:
    from nvision_hub.events import Sent
    from nvision_hub.wire import NvisionRequest

__all__ = ["CameraSettings", "retune", "run"]

log = logging.getLogger("nvision_hub.camera")

LOOP_WITHIN_S: Final = 10.0
ANSWERS_WITHIN_S: Final = 1.5  # at a stop, for what is on its way
REDIS_WITHIN_S: Final = 1.0  # at a stop, for what is not yet published
NAME_CHARACTERS: Final = 64
NAMES_SHOWN: Final = 20
NAMES_COUNTED: Final = 200  # more than any model of the YOLO family has, and a status must fit its pipe


def run(settings: CameraSettings, link: Link) -> int:
    """Stream the camera until asked to end."""
    reserve = Reserve()
    cap_memory()
    return asyncio.run(_Worker(settings, link, reserve).live())


class _Worker:
    def __init__(self, settings: CameraSettings, link: Link, reserve: Reserve) -> None:
        self._settings = settings
        self._link = link
        self._reserve = reserve
        self._meter = Meter()
        self._usage = Usage(self._meter)
        self._stop = threading.Event()
        self._rate_in, self._rate_out = Rate(), Rate()
        self._state = CameraState.STARTING
        self._since = time.time()  # when that was entered
        self._paused = threading.Event()
        if settings.paused:
            self._paused.set()
        self._last_result: float | None = None  # seconds since the epoch
        self._seen: list[str] = []  # the names in the last result, for the operators' row
        self._names: set[str] = set()  # those that have a metric of their own
        self._drained = False
        self._lease = None if settings.lease is None else Lease(settings.lease, settings.camera.id)
        self._origin = Origin(
            site=settings.site,
            camera=settings.camera.id,
            labels=dict(settings.camera.labels),
            service=settings.camera.nvision.service,
        )

    async def live(self) -> int:
        camera = self._settings.camera
        mailbox = Mailbox()
        self._publisher = Publisher(self._settings.stream, self._meter, self._settings.spool)
        dial_dir = self._settings.dial_dir
        self._capture = Capture(
            camera=camera,
            meter=self._meter,
            deliver=mailbox.put,
            stop=self._stop,
            turnstile=None if dial_dir is None else Turnstile(dial_dir),
            paused=self._paused,
        )
        self._previews = Previews(self._settings.stream, camera.id)
        lease = self._lease
        self._uplink = Uplink(
            service=self._settings.service,
            source_id=camera.id,
            fps=camera.fps,
            mailbox=mailbox,
            meter=self._meter,
            received=self._receive,
            handed=self._previews.note,
            paused=self._paused.is_set(),
            pace=Pace(file=self._settings.turns),
            allowed=(lambda _now: True) if lease is None else lease.held,
        )
        loop = asyncio.get_running_loop()
        capturing: asyncio.Future[None] = loop.create_future()
        loop.set_exception_handler(lambda loop, context: self._end_for_want_of_memory(loop, context, capturing))
        # A daemon: a thread that is stuck in a driver must not keep the process from ending.
        threading.Thread(target=self._run_capture, args=(capturing,), name="capture", daemon=True).start()
        publishing = asyncio.create_task(self._publisher.run())
        streaming = asyncio.create_task(self._uplink.run())
        previewing = asyncio.create_task(self._previews.run())
        reporting = asyncio.create_task(self._link.run(self._snapshot, self._command))
        leasing = [] if lease is None else [asyncio.create_task(lease.run())]
        tasks = {capturing, publishing, streaming, previewing, reporting, *leasing}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self._reserve.release()
        self._stop.set()
        if reporting.done():
            await self._uplink.drain(ANSWERS_WITHIN_S)
        # One after the other, so that no result is handed on that nobody would count.
        ends = [*await _ended(streaming)]
        ends += await _ended(*leasing)  # another hub may begin: nothing is sent any more
        await self._publisher.drain(REDIS_WITHIN_S)
        ends += await _ended(capturing, publishing, previewing, reporting)
        self._drained = True
        self._link.report(self._snapshot())
        for end in ends:
            if isinstance(end, Exception):
                raise end
        return 0

    def _run_capture(self, capturing: asyncio.Future[None]) -> None:
        """The capture thread. What it cannot mend, such as a want of memory, ends the worker at once."""

        def tell(error: Exception) -> None:
            if not capturing.done():
                capturing.set_exception(error)

        try:
            self._capture.run()
        except Exception as error:  # noqa: BLE001 - raised again by `live`
            self._reserve.release()  # telling it takes some
            with contextlib.suppress(RuntimeError):  # the loop has ended before
                capturing.get_loop().call_soon_threadsafe(tell, error)

    def _end_for_want_of_memory(
        self, loop: asyncio.AbstractEventLoop, context: dict[str, Any], capturing: asyncio.Future[None]
    ) -> None:
        """A connection that finds no memory is only closed by asyncio: the worker is to be started anew."""
        error = context.get("exception")
        if isinstance(error, MemoryError) and not capturing.done():
            self._reserve.release()
            capturing.set_exception(error)
        else:
            loop.default_exception_handler(context)

    def _command(self, command: Command) -> None:
        match command:
            case Command(verb="set", arguments=values):
                self._capture.tune(
                    fps=values["fps"], jpeg_quality=values["jpeg_quality"], max_width=values["max_width"]
                )
                self._uplink.tune(fps=values["fps"], confidence_threshold=values["confidence_threshold"])
                self._pause(values["paused"])
            case Command(verb="watch", arguments=wanted):
                self._previews.watch(width=wanted["width"], fps=wanted["fps"], for_s=wanted["for_s"])
            case Command(verb="answered", arguments=told):
                self._uplink.called_back(told["frames"])
            case _:
                log.warning("%s: not a command of a camera", command.verb)

    def _pause(self, paused: bool) -> None:  # noqa: FBT001 - a setting
        if paused is self._paused.is_set():
            return
        if paused:
            self._paused.set()
        else:
            self._paused.clear()
        self._uplink.pause(paused)
        self._link.report(self._snapshot())  # whoever pressed the button is looking

    def _receive(self, result: NvisionRequest, sent: Sent) -> None:
        now = time.time()
        event = result_event(result, sent, self._origin, received_at=now)
        self._last_result = now
        found = [*result.detected_objects, *result.detected_faces]
        for detection in found:
            self._meter.count("detections_total", name=self._label(detection.name))
        self._seen = [detection.name[:NAME_CHARACTERS] for detection in found[:NAMES_SHOWN]]
        self._publisher.publish(self._origin.camera, event)

    def _label(self, name: str) -> str:
        """A detection's name as a metric's label: the service chooses names, and must not make endless series."""
        name = name[:NAME_CHARACTERS]
        if name not in self._names and len(self._names) >= NAMES_COUNTED:
            return "other"
        self._names.add(name)
        return name

    def _current_state(self) -> CameraState:
        """What an operator should know first: a refused key stops the camera as surely as a refused password."""
        if self._drained or self._stop.is_set():
            return CameraState.STOPPED
        if self._paused.is_set():
            return CameraState.PAUSED
        if self._capture.state is CameraState.PAUSED:  # told to go on, which its thread will see in a moment
            return CameraState.CONNECTING
        if self._capture.state is CameraState.STREAMING and self._uplink.error is not None:
            return CameraState.AUTH_FAILED if self._uplink.refused else CameraState.CONNECTING
        if self._capture.state is CameraState.STREAMING and self._waits_for is not None:
            return CameraState.CONNECTING
        return self._capture.state

    @property
    def _waits_for(self) -> str | None:
        """Why nothing may be sent, as a sentence; None while it may."""
        return None if self._lease is None else self._lease.error

    def _snapshot(self) -> Status:
        now = time.monotonic()
        state = self._current_state()
        away = None if state is CameraState.PAUSED else self._capture.error or self._uplink.error or self._waits_for
        late = self._capture.late if state is CameraState.STREAMING else None
        error = away or self._publisher.error or late
        if state is not self._state:
            self._announce(state, error)
        meter = self._meter
        meter.gauge("results_waiting", self._publisher.results_waiting)
        meter.gauge("uplink_up", int(self._uplink.connected))
        if self._capture.moving is not None:
            meter.gauge("motion_active", self._capture.moving)
        self._usage.note()
        return Status(
            **status_basis(state),
            ready=state in {CameraState.STREAMING, CameraState.PAUSED},
            error=error,
            promises={"capture": self._capture.promise(), "event loop": Promise(at=now, within_s=LOOP_WITHIN_S)},
            metrics=meter.snapshot(),
            row=self._row(now),
        )

    def _row(self, now: float) -> dict[str, Any]:
        meter = self._meter
        last_frame = meter.gauge_value("last_frame_timestamp_seconds")
        return {
            "since": self._since,
            "fps": self._capture.fps,
            "paused": self._paused.is_set(),
            "moving": self._capture.moving,
            "decoder": self._capture.decoder,
            "rate_in": self._rate_in.update(now, meter.value("packets_received_total")),
            "rate_out": self._rate_out.update(now, meter.value("frames_sent_total")),
            "sent": meter.value("frames_sent_total"),
            "dropped": meter.total("frames_dropped_total"),
            "last_result_at": self._last_result,
            "seen": self._seen,
            "last_frame_at": last_frame,
            "last_frame_id": self._uplink.last_frame_id,
            "gop_s": self._capture.gop_s,
        }

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
        note_state(state)


async def _ended(*tasks: asyncio.Future[None]) -> list[BaseException | None]:
    """Cancel tasks; what each has ended with."""
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)
