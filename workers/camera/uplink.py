"""The WebSocket to Nvision: newest picture out, results in, and connected anew for as long as the worker lives.

Every send, ping and close is bounded in time: websockets waits without limit for a peer that is frozen with a full
buffer, so what does not end in time is aborted. It knows neither cameras nor Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from nvision_hub import __version__
from nvision_hub.backoff import Backoff
from nvision_hub.events import Sent, new_id
from nvision_hub.wire import NvisionRequest, Options, WireError, decode, encode_request, timestamp
from workers.camera.in_flight import InFlight
from workers.camera.refusal import Refusal, classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.status import Meter
    from workers.camera.mailbox import Frame, Mailbox

log = logging.getLogger("nvision_hub.uplink")

OPEN_WITHIN_S: Final = 10.0
SEND_WITHIN_S: Final = 10.0
PING_EVERY_S: Final = 15.0
PONG_WITHIN_S: Final = 15.0
CLOSE_WITHIN_S: Final = 1.0
UNACKNOWLEDGED_MS: Final = 20_000  # TCP_USER_TIMEOUT: a peer that vanished with data on the way
ANSWER_MAX_BYTES: Final = 100 * 2**20  # as the service's own SDK accepts
WINDOW_S: Final = 2.0  # answers may lag by this much before pictures are held back, so that each sent one is fresh
WINDOW_MIN: Final = 4


class _Connect(connect):
    """websockets follows redirects, and would show the key, which is its subprotocol, to whatever host they name."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Take a redirect for the refusal that it is."""
        return exc


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """Where to stream to, and what to ask of it."""

    url: str  # of the one service, such as wss://nvision.nipa.cloud/api/v1/object-detection
    key: str = field(repr=False)
    options: Options
    direct: bool = False  # past any proxy of the environment: it is on this machine


@dataclass(kw_only=True)
class Uplink:
    """One camera's connection. `run` is its task; results go to `received`, with the picture they answer."""

    service: Service
    source_id: str
    fps: float
    mailbox: Mailbox
    meter: Meter
    received: Callable[[NvisionRequest, Sent], None]
    error: str | None = None  # why there is no connection, as a sentence; None while there is
    refused: bool = False  # the service will not have us until somebody mends it
    turned: float = field(default_factory=time.monotonic)  # last sign of progress
    _in_flight: InFlight = field(default_factory=InFlight)
    _sequence: int = 0
    _answers: int = 0  # on this connection; none ever come where a callback URL is set
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)  # set while no answer is awaited

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(first_s=0.5, cap_s=20.0, healthy_s=20.0)
        while True:
            try:
                await self._session(backoff)
            except (WebSocketException, OSError, TimeoutError) as error:
                refusal = classify(error, self.service.url, now=time.time())
            self._give_up("uplink")
            await asyncio.sleep(self._fail(refusal, backoff))

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
        connection = await self._connect()
        self.error, self.refused, self._answers = None, False, 0
        self._room.set()
        tasks = [
            asyncio.create_task(self._send_all(connection)),
            asyncio.create_task(self._receive_all(connection, backoff)),
            asyncio.create_task(self._expire_all()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # Where the peer closed, sender and receiver both fail; the receiver's error carries the close code.
            for task in sorted(done, key=tasks.index, reverse=True):
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close(connection)

    async def _connect(self) -> ClientConnection:
        async with asyncio.timeout(OPEN_WITHIN_S):
            connection = await _Connect(
                self.service.url,
                subprotocols=[Subprotocol(self.service.key)],
                compression=None,  # JPEG does not deflate
                max_size=ANSWER_MAX_BYTES,
                ping_interval=PING_EVERY_S,
                ping_timeout=PONG_WITHIN_S,
                close_timeout=CLOSE_WITHIN_S,
                open_timeout=None,
                proxy=None if self.service.direct else True,
                user_agent_header=f"nvision-hub/{__version__}",
            )
        raw = connection.transport.get_extra_info("socket")
        if raw is not None and raw.family in {socket.AF_INET, socket.AF_INET6}:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        return connection

    async def _close(self, connection: ClientConnection) -> None:
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await connection.close()
        except (TimeoutError, WebSocketException, OSError):
            connection.transport.abort()

    async def _send_all(self, connection: ClientConnection) -> None:
        while True:
            await self._room.wait()
            frame = await self.mailbox.take()
            sent = self._next(frame)
            data = encode_request(
                source_id=self.source_id,
                frame_id=sent.frame_id,
                created_at=timestamp(datetime.fromtimestamp(frame.captured_at or sent.sent_at, UTC)),
                image=frame.jpeg,
                options=self.service.options,
            )
            # Before the send: the answer may be back before the sender's turn comes again.
            self._in_flight.add(sent)
            self._weigh()
            try:
                async with asyncio.timeout(SEND_WITHIN_S):
                    await connection.send(data)
            except BaseException:
                if self._in_flight.answered(sent.frame_id):
                    self.meter.count("frames_dropped_total", reason="uplink")
                raise
            self.turned = time.monotonic()
            self.meter.count("frames_sent_total")
            self.meter.count("sent_bytes_total", len(frame.jpeg))
            self.meter.observe("frame_age_seconds", self.turned - frame.captured_mono)

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
            try:
                result = decode(data)
            except WireError:
                self.meter.count("results_lost_total", reason="unreadable")
                continue
            self.meter.count("results_received_total")
            sent = self._in_flight.answered(result.frame_id)
            if sent is None:
                self.meter.count("results_lost_total", reason="unknown_frame")
                continue
            self._answers += 1
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
            given_up = self._in_flight.expire(time.monotonic())
            # Where no answer ever came, a callback URL is set, and answers are not ours to await.
            if self._answers:
                self._lose(given_up, "unanswered")
            self._weigh()

    @property
    def _window(self) -> int:
        return max(WINDOW_MIN, math.ceil(WINDOW_S * self.fps))

    @property
    def _answering(self) -> bool:
        """Whether answers are ours to await: some came, or it is too early to say that none do."""
        return self._answers > 0 or len(self._in_flight) < self._window

    def _weigh(self) -> None:
        """Hold pictures back while answers lag, where answers come at all."""
        if self._answers and len(self._in_flight) >= self._window:
            self._room.clear()
        else:
            self._room.set()
        if self._in_flight and self._answering:
            self._quiet.clear()
        else:
            self._quiet.set()

    def _give_up(self, reason: str) -> None:
        answering = self._answering
        pictures = self._in_flight.clear()
        if answering:
            self._lose(pictures, reason)

    def _lose(self, pictures: int, reason: str) -> None:
        if pictures:
            self.meter.count("results_lost_total", pictures, reason=reason)

    def tune(self, *, fps: float, confidence_threshold: float) -> None:
        """Take up new settings from the next picture on."""
        self.fps = fps
        options = replace(self.service.options, confidence_threshold=confidence_threshold)
        self.service = replace(self.service, options=options)

    async def drain(self, within_s: float) -> None:
        """Wait for the answers still due, at most `within_s`."""
        self._weigh()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._quiet.wait()
        self._give_up("stopped")
