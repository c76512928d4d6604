"""The stream to Nvision: newest picture out, results in, and connected anew for as long as the worker lives.

It accounts for every picture (`in_flight.py`) and for every message that comes back:

    results_received_total = results_lost_total{unreadable, too_large, unknown_frame, duplicate, late} + handed on

and whoever they are handed on to carries that account further. Where the service posts its results to a callback URL
instead, they come another way, and here it is only told which pictures they answered. It knows no camera and no Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from websockets.exceptions import WebSocketException
from websockets.protocol import State

from nvision_hub.backoff import Backoff
from nvision_hub.events import Sent, new_id
from nvision_hub.wire import NvisionRequest, WireError, decode, encode_request, timestamp
from workers.camera.dial import Limits, Service, dial, hang_up
from workers.camera.in_flight import InFlight
from workers.camera.pace import Pace
from workers.camera.refusal import Refusal, classify, unusable_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from websockets.asyncio.client import ClientConnection

    from nvision_hub.status import Meter
    from workers.camera.mailbox import Frame, Mailbox

log = logging.getLogger("nvision_hub.uplink")

WINDOW_S: Final = 2.0  # answers may lag by this much before pictures are held back, so that each sent one is fresh
WINDOW_MIN: Final = 4
CATCH_UP: Final = 3.0  # times the camera's rate: how fast pictures leave that are behind


@dataclass(kw_only=True)
class Uplink:
    """One camera's connection. `run` is its task; results go to `received`, with the picture they answer."""

    service: Service
    source_id: str
    fps: float
    mailbox: Mailbox
    meter: Meter
    received: Callable[[NvisionRequest, Sent], None]
    handed: Callable[[Sent, bytes], None] = lambda _sent, _jpeg: None  # told of each picture that goes to a connection
    allowed: Callable[[float], bool] = lambda _now: True  # whether a picture may be sent at a moment (monotonic)
    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)
    connected: bool = False
    error: str | None = None  # why there is no connection, as a sentence; None while there is
    paused: bool = False  # nothing is sent; the connection and the answers under way stay
    refused: bool = False  # the service will not have us until somebody mends it
    last_frame_id: str | None = None  # of the last picture handed to a connection
    _draining: bool = False
    _in_flight: InFlight = field(init=False)
    _sequence: int = 0
    _answers: int = 0  # on this connection
    _answered: bool = False  # ever; no answers come where a callback URL is set
    _called_back: bool = False  # answers come by callback, and we are told of them
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)  # set while no answer is awaited

    def __post_init__(self) -> None:
        self._in_flight = InFlight(self.meter)

    async def run(self) -> None:
        """Until cancelled; then nothing is in flight any more."""
        limits = self.limits
        backoff = Backoff(first_s=limits.retry_first_s, cap_s=limits.retry_cap_s, healthy_s=limits.healthy_s)
        expiring = asyncio.create_task(self._expire_all())
        try:
            while True:
                try:
                    await self._session(backoff)
                except (WebSocketException, OSError, TimeoutError, ImportError) as error:
                    refusal = classify(error, self.service.url, now=time.time())
                    if reason := unusable_answer(error):
                        self.meter.count("results_received_total")
                        self.meter.count("results_lost_total", reason=reason)
                if not self._called_back:  # a callback comes whether or not the connection lives
                    self._give_up("uplink")
                await asyncio.sleep(self._fail(refusal, backoff))
                await self.pace.wait()
        finally:
            expiring.cancel()
            self._give_up("stopped")

    def _fail(self, refusal: Refusal, backoff: Backoff) -> float:
        self.meter.count("uplink_reconnects_total", reason=refusal.reason)
        self.refused = refusal.final
        delay = max(backoff.next_s(), (refusal.wait_s or 0.0) * backoff.rng.uniform(1.0, 1.2))
        if self.error != refusal.sentence:
            log.warning("%s (next try in %.0f s)", refusal.sentence, delay)
        self.error = refusal.sentence
        return delay

    async def _session(self, backoff: Backoff) -> None:
        """One connection, from handshake to its end, which is always an error."""
        connection = await dial(self.service, self.limits)
        self.connected, self.error, self.refused, self._answers = True, None, False, 0
        self._weigh()
        tasks = [
            asyncio.create_task(self._send_all(connection)),
            asyncio.create_task(self._receive_all(connection, backoff)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # Where the peer closed, sender and receiver both fail; the receiver's error carries the close code.
            for task in sorted(done, key=tasks.index, reverse=True):
                task.result()
        finally:
            self.connected = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await hang_up(connection, self.limits)

    async def _send_all(self, connection: ClientConnection) -> None:
        while True:
            await self._room.wait()
            frame = await self.mailbox.take()
            if self._draining or self.paused:
                self.meter.count("frames_dropped_total", reason="stopped" if self._draining else "paused")
                continue
            if not self.allowed(time.monotonic()):
                self.meter.count("frames_dropped_total", reason="lease")
                continue
            sent = self._next(frame)
            data = encode_request(
                source_id=self.source_id,
                frame_id=sent.frame_id,
                created_at=timestamp(datetime.fromtimestamp(frame.captured_at or sent.sent_at, UTC)),
                image=frame.jpeg,
                options=self.service.options,
            )
            if connection.state is State.OPEN:
                # Before the send: the answer may be back before the sender's turn comes again. A send that fails
                # half-way may have arrived all the same, and may be charged for: it counts as sent, and as unanswered.
                self._in_flight.add(sent)
                self.last_frame_id = sent.frame_id
                self.handed(sent, frame.jpeg)
                self._weigh()
            else:
                self.meter.count("frames_dropped_total", reason="uplink")
            async with asyncio.timeout(self.limits.send_s):
                await connection.send(data)
            if frame.behind:
                # Not all at once: whoever receives them has others to serve.
                await asyncio.sleep(1 / (CATCH_UP * self.fps))
            else:
                self.meter.observe("frame_age_seconds", time.monotonic() - frame.captured_mono)

    def _next(self, frame: Frame) -> Sent:
        self._sequence += 1
        return Sent(
            frame_id=new_id(frame.captured_at),
            sequence=self._sequence,
            captured_at=frame.captured_at,
            sent_at=time.time(),
            sent_mono=time.monotonic(),
            width=frame.width,
            height=frame.height,
            jpeg_bytes=len(frame.jpeg),
        )

    async def _receive_all(self, connection: ClientConnection, backoff: Backoff) -> None:
        while True:
            data = await connection.recv()
            now = time.monotonic()
            self.meter.count("results_received_total")
            try:
                result = decode(data)
            except WireError:
                self.meter.count("results_lost_total", reason="unreadable")
                continue
            sent = self._in_flight.answered(result.frame_id)
            if sent is None:
                self.meter.count("results_lost_total", reason=self._in_flight.stranger(result.frame_id))
                continue
            self._answers += 1
            self._answered, self._called_back = True, False
            self._weigh()
            backoff.healthy(now)
            if not all(math.isfinite(found.confidence) for found in (*result.detected_objects, *result.detected_faces)):
                self.meter.count("results_lost_total", reason="unreadable")  # JSON has no word for it
                continue
            self.meter.observe("round_trip_seconds", now - sent.sent_mono)
            self.received(result, sent)

    async def _expire_all(self) -> None:
        while True:
            await asyncio.sleep(1)
            # Where no answer ever came, a callback URL is set that is not the hub's, and answers are not ours to await.
            reason = "timeout" if self._answered or self._called_back else "callback"
            self._in_flight.expire(time.monotonic() - self.limits.answer_s, reason)
            self._weigh()

    def called_back(self, frames: Iterable[tuple[str, float]]) -> None:
        """The hub's callback endpoint has had these pictures' answers: their ids, each with its moment (monotonic).

        They hold nothing back: whether that endpoint is reachable must not decide whether pictures are sent.
        """
        for frame_id, at in frames:
            sent = self._in_flight.answered(frame_id) if frame_id else None
            if sent is not None:
                self._called_back = True
                self.meter.observe("round_trip_seconds", max(0.0, at - sent.sent_mono))
        self._weigh()

    @property
    def _window(self) -> int:
        return max(WINDOW_MIN, math.ceil(WINDOW_S * self.fps))

    @property
    def _answering(self) -> bool:
        """Whether answers are ours to await: some came, or it is too early to say that none do."""
        return self._answers > 0 or self._called_back or len(self._in_flight) < self._window

    def _weigh(self) -> None:
        """Hold pictures back while answers lag, where answers come at all."""
        if self._draining or (self._answers and self._in_flight.lag >= self._window):
            self._room.clear()
        else:
            self._room.set()
        if self._in_flight and self._answering:
            self._quiet.clear()
        else:
            self._quiet.set()

    def _give_up(self, reason: str) -> None:
        self._in_flight.clear(reason if self._answered or self._answering else "callback")
        self._weigh()

    def tune(self, *, fps: float, confidence_threshold: float) -> None:
        """Take up new settings from the next picture on."""
        self.fps = fps
        options = replace(self.service.options, confidence_threshold=confidence_threshold)
        self.service = replace(self.service, options=options)

    def pause(self, paused: bool) -> None:  # noqa: FBT001 - a setting
        """Send nothing more, or send again; a picture from before either is dropped, however it was held up."""
        if paused != self.paused and (dropped := self.mailbox.clear()):
            self.meter.count("frames_dropped_total", by=dropped, reason="paused")
        self.paused = paused

    async def drain(self, within_s: float) -> None:
        """Send no more, and wait for the answers still due, at most `within_s`; to be cancelled next."""
        self._draining = True
        self._weigh()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._quiet.wait()
