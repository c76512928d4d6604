"""Connection to Nvision: sends the newest frame, receives results, and reconnects as long as the worker runs.

The uplink accounts for every frame (`in_flight.py`) and for every message received:

    results_received_total = results_lost_total{unreadable, too_large, unknown_frame, duplicate, late}
                             + calls of `on_result`

A notice that the service has skipped a frame (`nvision/skipping.py`) does not count as a result.

If the service posts results to a callback URL instead, `on_callback` receives the ids of the answered frames. This
module imports neither camera code nor Redis code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from websockets.exceptions import WebSocketException
from websockets.protocol import State

from nvision_hub.backoff import Backoff
from nvision_hub.metrics import catalogue
from nvision_hub.nvision.connection import ClientTimeouts, ServiceEndpoint, close_connection, open_connection
from nvision_hub.nvision.errors import classify, unusable_result
from nvision_hub.nvision.protocol import ProtocolError, decode, encode_request, is_representable
from nvision_hub.nvision.result_events import SentFrame, new_id
from nvision_hub.nvision.skipping import is_notice
from nvision_hub.timestamps import iso_utc
from workers.camera.in_flight import InFlightFrames
from workers.camera.latest_frame import MAX_BEHIND_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from websockets.asyncio.client import ClientConnection

    from nvision_hub.metrics.meter import Meter
    from nvision_hub.nvision.nvision_pb2 import NvisionRequest
    from nvision_hub.runtime.messages import AnsweredFrame
    from workers.camera.connection_turns import ReconnectTurn
    from workers.camera.image_permits import ImagePermits
    from workers.camera.latest_frame import EncodedFrame, LatestFrameSlot

log = logging.getLogger("nvision_hub.uplink")

WINDOW_S: Final = 2.0  # sending pauses when results lag by this time, so that each sent frame is fresh
MIN_WINDOW: Final = 4
CATCH_UP: Final = 3.0  # the worker sends the frames of a pre-roll at this multiple of the camera's rate


@dataclass(kw_only=True)
class Uplink:
    """Connection of one camera to Nvision. The caller starts `run` as a task. `on_result` receives the results."""

    service: ServiceEndpoint
    source_id: str
    fps: float
    slot: LatestFrameSlot
    meter: Meter
    on_result: Callable[[NvisionRequest, SentFrame], None]
    on_sent: Callable[[SentFrame, bytes], None] = lambda _sent, _jpeg: None
    may_send: Callable[[float], bool] = lambda _now: True  # returns whether frames may be sent at a monotonic time
    timeouts: ClientTimeouts = field(default_factory=ClientTimeouts)
    permits: ImagePermits | None = None  # None if there is no budget
    reconnect_turn: ReconnectTurn | None = None  # if None, the uplink waits only for its backoff
    connected: bool = False
    error: str | None = None  # message that says why there is no connection; None while connected
    paused: bool = False  # while True, the worker sends nothing; the connection stays open, and results still arrive
    refused: bool = False  # whether connection attempts are useless until the user fixes the cause
    last_frame_id: str | None = None  # id of the last frame sent
    _draining: bool = False
    _held: EncodedFrame | None = None  # frame that waits for a permit of the budget
    _in_flight: InFlightFrames = field(init=False)
    _sequence: int = 0
    _results: int = 0  # number of results on this connection
    _has_result: bool = False  # whether any connection has carried a result; with a callback URL, none does
    _is_called_back: bool = False  # whether results go to the hub's callback endpoint
    _may_send_more: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)  # set while no result is expected

    def __post_init__(self) -> None:
        self._in_flight = InFlightFrames(self.meter)

    async def run(self) -> None:
        """Run until canceled. After that, no frame is in flight."""
        timeouts = self.timeouts
        backoff = Backoff(first_s=timeouts.retry_first_s, cap_s=timeouts.retry_cap_s, healthy_s=timeouts.healthy_s)
        expiring = asyncio.create_task(self._expire())
        try:
            while True:
                try:
                    await self._connect(backoff)
                except (WebSocketException, OSError, TimeoutError, ImportError) as error:
                    failure = classify(error, self.service.url, now=time.time())
                    if reason := unusable_result(error):
                        self.meter.count(catalogue.RESULTS_RECEIVED_TOTAL)
                        self.meter.count(catalogue.RESULTS_LOST_TOTAL, reason=reason)
                if not self._is_called_back:  # callbacks arrive whether or not the connection is open
                    self._give_up("uplink")
                self.meter.count(catalogue.UPLINK_RECONNECTS_TOTAL, reason=failure.reason)
                self.refused = failure.final
                delay = max(backoff.next_s(), (failure.wait_s or 0.0) * backoff.rng.uniform(1.0, 1.2))
                if self.error != failure.message:
                    log.warning("%s; retrying in %.0f s", failure.message, delay, extra={"event": "uplink_failed"})
                self.error = failure.message
                await asyncio.sleep(delay)
                if self.reconnect_turn is not None:
                    await self.reconnect_turn.wait()
        finally:
            expiring.cancel()
            self._give_up("stopped")

    async def _connect(self, backoff: Backoff) -> None:
        """Open one connection and use it until it ends. The end always raises an error."""
        connection = await open_connection(self.service, self.timeouts)
        self.connected, self.error, self.refused, self._results = True, None, False, 0
        self._update_flow()
        # If the peer closes the connection, both tasks fail. Only the receiver's error contains the close code.
        tasks = [asyncio.create_task(work) for work in (self._receive(connection, backoff), self._send(connection))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in filter(asyncio.Task.done, tasks):
                task.result()
        finally:
            self.connected = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await close_connection(connection, self.timeouts)

    async def _send(self, connection: ClientConnection) -> None:
        while True:
            await self._may_send_more.wait()
            frame = await self.slot.get()
            if self._is_dropped():
                continue
            if self.permits is not None:
                permitted = await self._permitted(frame, self.permits)
                if permitted is None or self._is_dropped():
                    self.permits.on_returned()
                    continue
                frame = permitted
            self._sequence += 1
            sent = SentFrame(
                frame_id=new_id(frame.captured_at),
                sequence=self._sequence,
                captured_at=frame.captured_at,
                captured_mono=frame.captured_mono,
                sent_at=time.time(),
                sent_mono=time.monotonic(),
                width=frame.width,
                height=frame.height,
                jpeg_bytes=len(frame.jpeg),
            )
            data = encode_request(
                source_id=self.source_id,
                frame_id=sent.frame_id,
                created_at=iso_utc(frame.captured_at or sent.sent_at),
                image=frame.jpeg,
                options=self.service.options,
            )
            if connection.state is State.OPEN:
                # The frame is added before the send, because the result may arrive before the sender runs again. If the
                # send fails halfway, the frame may still arrive and be charged for, so it counts as sent.
                self._in_flight.add(sent)
                if self.permits is not None:
                    self.permits.on_sending(sent.frame_id)
                self.last_frame_id = sent.frame_id
                self.on_sent(sent, frame.jpeg)
                self._update_flow()
            else:
                self.meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="uplink")
                if self.permits is not None:
                    self.permits.on_returned()
            try:
                async with asyncio.timeout(self.timeouts.send_timeout_s):
                    await connection.send(data)
            finally:
                if self.permits is not None:
                    self.permits.on_sent(sent.frame_id, is_answer_expected=self._expects_results)
            if frame.behind:
                # Do not send the frames of a pre-roll all at once, because the service also serves other cameras.
                await asyncio.sleep(1 / (CATCH_UP * self.fps))
            else:
                self.meter.observe(catalogue.FRAME_AGE_SECONDS, time.monotonic() - frame.captured_mono)

    def _is_dropped(self) -> bool:
        """Return whether sending is forbidden now. If so, count the current frame as dropped."""
        if self._draining:
            reason = "stopped"
        elif self.paused:
            reason = "paused"
        elif not self.may_send(time.monotonic()):
            reason = "lease"
        else:
            return False
        self.meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason=reason)
        return True

    async def _permitted(self, frame: EncodedFrame, permits: ImagePermits) -> EncodedFrame | None:
        """Wait for a permit. Return the newest frame, or the oldest frame of a pre-roll.

        If the frame has become too old or the camera was paused, count the frame as dropped and return None.
        """
        permit = permits.request()
        self._held = frame
        try:
            if frame.behind:
                await asyncio.wait({permit})
            while not permit.done():
                newer = asyncio.create_task(self.slot.get())
                waited: set[asyncio.Future[Any]] = {permit, newer}
                try:
                    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    newer.cancel()
                if newer.done():
                    self._drop_held("budget", permits)
                    self._held = newer.result()
        except asyncio.CancelledError:  # the connection has ended
            self._drop_held("uplink")
            if permit.done():
                permits.on_returned()
            permit.cancel()
            raise
        return self._pop_held(permits)

    def _pop_held(self, permits: ImagePermits) -> EncodedFrame | None:
        if self._held is not None and time.monotonic() - self._held.captured_mono > MAX_BEHIND_S:
            self._drop_held("budget", permits)
        frame, self._held = self._held, None
        return frame

    def _drop_held(self, reason: str, withheld_by: ImagePermits | None = None) -> None:
        """Drop the frame that waits for a permit, if any."""
        if self._held is not None:
            self._held = None
            self.meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason=reason)
            if withheld_by is not None:
                withheld_by.on_withheld(time.monotonic())

    async def _receive(self, connection: ClientConnection, backoff: Backoff) -> None:
        while True:
            data = await connection.recv()
            now = time.monotonic()
            try:
                result = decode(data)
            except ProtocolError:
                self.meter.count(catalogue.RESULTS_RECEIVED_TOTAL)
                self.meter.count(catalogue.RESULTS_LOST_TOTAL, reason="unreadable")
                continue
            if is_notice(result):
                self._on_skipped(result.frame_id, now)
                continue
            self.meter.count(catalogue.RESULTS_RECEIVED_TOTAL)
            sent = self._in_flight.pop(result.frame_id)
            if sent is None:
                self.meter.count(catalogue.RESULTS_LOST_TOTAL, reason=self._in_flight.unmatched_reason(result.frame_id))
                continue
            if self.permits is not None:
                self.permits.on_answered(sent.frame_id, now - sent.sent_mono)
            self._results += 1
            self._has_result, self._is_called_back = True, False
            self._update_flow()
            backoff.healthy(now)
            if not is_representable(result):
                self.meter.count(catalogue.RESULTS_LOST_TOTAL, reason="unreadable")
                continue
            self.meter.observe(catalogue.ROUND_TRIP_SECONDS, now - sent.sent_mono)
            self.on_result(result, sent)

    def _on_skipped(self, frame_id: str, now: float) -> None:
        """Give up a frame that the local service has skipped. The budget counts this frame, because it has arrived."""
        sent = self._in_flight.skip(frame_id)
        if sent is not None and self.permits is not None:
            self.permits.on_answered(sent.frame_id, now - sent.sent_mono)
        self._update_flow()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(1)
            # If no result has ever arrived, results probably go to a callback URL that does not belong to the hub.
            reason = "timeout" if self._has_result or self._is_called_back else "callback"
            self._in_flight.expire(time.monotonic() - self.timeouts.result_timeout_s, reason)
            self._update_flow()

    def on_callback(self, frames: Iterable[AnsweredFrame]) -> list[tuple[AnsweredFrame, SentFrame]]:
        """Mark frames as answered through the hub's callback endpoint. Return the frames that were in flight.

        These results do not limit sending, because the callback endpoint may be unreachable.
        """
        answered = []
        for frame in frames:
            sent = self._in_flight.pop(frame.frame_id) if frame.frame_id else None
            if sent is not None:
                answered.append((frame, sent))
                self._is_called_back = True
                round_trip_s = max(0.0, frame.at - sent.sent_mono)
                if self.permits is not None:
                    self.permits.on_answered(sent.frame_id, round_trip_s)
                self.meter.observe(catalogue.ROUND_TRIP_SECONDS, round_trip_s)
        self._update_flow()
        return answered

    @property
    def _window(self) -> int:
        return max(MIN_WINDOW, math.ceil(WINDOW_S * self.fps))

    @property
    def _expects_results(self) -> bool:
        """Whether results have arrived, or whether it is too early to conclude that none will arrive."""
        return self._results > 0 or self._is_called_back or len(self._in_flight) < self._window

    def _update_flow(self) -> None:
        """Pause sending while results lag, unless this connection carries no results."""
        must_wait = self._draining or (self._results and self._in_flight.lag >= self._window)
        (self._may_send_more.clear if must_wait else self._may_send_more.set)()
        (self._idle.clear if self._in_flight and self._expects_results else self._idle.set)()

    def _give_up(self, reason: str) -> None:
        self._in_flight.clear(reason if self._has_result or self._expects_results else "callback")
        self._update_flow()

    def configure(self, *, fps: float, confidence_threshold: float) -> None:
        """Apply new settings from the next frame."""
        self.fps = fps
        options = replace(self.service.options, confidence_threshold=confidence_threshold)
        self.service = replace(self.service, options=options)

    def set_paused(self, paused: bool) -> None:  # noqa: FBT001 - it is a setting
        """Pause or resume sending. A change drops the frames in the slot and the frame that waits for a permit."""
        if paused != self.paused:
            self._drop_held("paused")
            if dropped := self.slot.clear():
                self.meter.count(catalogue.FRAMES_DROPPED_TOTAL, by=dropped, reason="paused")
        self.paused = paused

    async def drain(self, timeout_s: float) -> None:
        """Stop sending, and wait at most `timeout_s` seconds for outstanding results. The caller then cancels `run`."""
        self._draining = True
        self._update_flow()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
