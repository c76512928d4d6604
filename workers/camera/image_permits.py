"""Permits to send images. If the site has a budget, a camera worker requests each permit from the ledger.

While the ledger is unreachable, the worker waits. It reconnects to the ledger automatically.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from nvision_hub.budget.ledger_protocol import (
    MAX_LINE_BYTES,
    SOCKET_NAME,
    ImageDelayed,
    ImageGranted,
    ImageReturned,
    ImageSent,
    LedgerMessage,
    RequestImage,
    WantImages,
    decode_line,
    encode_line,
)
from nvision_hub.runtime.unix_socket import short_path

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("nvision_hub.camera")

RECONNECT_S: Final = 0.2
ANSWER_TIMEOUT_S: Final = 2.0  # after this time, a frame without an answer counts as arrived
RECENT_FRAMES: Final = 100
LIMITED_FOR_S: Final = 5.0  # a limit remains visible for this time after the last withheld frame
NO_LEDGER: Final = "the ledger, which does not run"


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerAccess:
    """Directory of the ledger's socket, and the camera's limits and priority."""

    directory: Path
    wanted: WantImages


class ImagePermits:
    """Connection to the ledger. The caller starts `run` as a task."""

    def __init__(self, access: LedgerAccess) -> None:
        self._directory = access.directory
        self._wanted = access.wanted
        self._writer: asyncio.StreamWriter | None = None  # None while the ledger is unreachable
        self._permit: asyncio.Future[None] | None = None  # the permit for which the uplink is waiting
        # Frames whose arrival is not reported yet, each with the timer of its report. The timer is None during sending.
        self._unanswered: dict[str, asyncio.TimerHandle | None] = {}
        self._round_trips_s = deque[float](maxlen=RECENT_FRAMES)
        self._reason = NO_LEDGER
        self._limited_at = float("-inf")

    async def run(self) -> None:
        """Run until canceled."""
        while True:
            try:
                await self._connect()
            except (OSError, ValueError) as error:
                log.debug("connection to the ledger lost: %s", error)
            self._writer, self._reason = None, NO_LEDGER
            await asyncio.sleep(RECONNECT_S)

    async def _connect(self) -> None:
        with short_path(self._directory / SOCKET_NAME) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=MAX_LINE_BYTES)
        try:
            self._writer = writer
            self._send(self._wanted)
            if self._permit is not None:
                self._send(RequestImage())
            while line := await reader.readline():
                self._receive(decode_line(line))
        finally:
            writer.close()

    def _receive(self, message: LedgerMessage) -> None:
        match message:
            case ImageGranted():
                permit, self._permit = self._permit, None
                if permit is None or permit.done():
                    self._send(ImageReturned())
                else:
                    permit.set_result(None)
            case ImageDelayed(limited_by=reason):
                self._reason = reason
            case _:
                raise ValueError(f"unexpected message from the ledger: {type(message).__name__}")

    def _send(self, message: LedgerMessage) -> None:
        if self._writer is not None:
            self._writer.write(encode_line(message))

    def set_fps(self, fps: float) -> None:
        """Report the camera's rate in images per second, or 0 while the camera is paused."""
        if fps != self._wanted.fps:
            self._wanted = replace(self._wanted, fps=fps)
            self._send(self._wanted)
            if fps and self._permit is not None:
                self._send(RequestImage())

    def request(self) -> asyncio.Future[None]:
        """Request a permit. When the future is done, call `on_sent` or `on_returned`.

        To withdraw, cancel the future.
        """
        self._permit = asyncio.get_running_loop().create_future()
        self._send(RequestImage())
        return self._permit

    def on_sending(self, frame_id: str) -> None:
        """Remember the frame before it is sent, because its result may arrive before `on_sent`."""
        self._unanswered[frame_id] = None

    def on_sent(self, frame_id: str, *, is_answer_expected: bool) -> None:
        """Report that the image of the permit was sent or may have been sent.

        Only an answer shows when the image arrived. If an answer is expected, the report waits for it, but no longer
        than `ANSWER_TIMEOUT_S`.
        """
        if frame_id in self._unanswered:
            delay_s = ANSWER_TIMEOUT_S if is_answer_expected else 0.0
            self._unanswered[frame_id] = asyncio.get_running_loop().call_later(delay_s, self._report, frame_id, 0.0)

    def on_answered(self, frame_id: str, round_trip_s: float) -> None:
        """Report the arrival of a frame whose result has arrived.

        The report assumes that the shortest recent round trip passed between the image's arrival and its result. Any
        additional time counts as delay on the way to the service.
        """
        self._round_trips_s.append(round_trip_s)
        self._report(frame_id, min(self._round_trips_s))

    def _report(self, frame_id: str, age_s: float) -> None:
        if frame_id in self._unanswered:
            if (timer := self._unanswered.pop(frame_id)) is not None:
                timer.cancel()
            self._send(ImageSent(age_s=age_s))

    def on_returned(self) -> None:
        """Give the permit back to the ledger, because the image was not sent."""
        self._send(ImageReturned())

    def on_withheld(self, now: float) -> None:
        """Remember that the worker withheld a frame at the monotonic time `now`."""
        self._limited_at = now

    def limited_by(self, now: float) -> str | None:
        """Return the limit that withholds frames at the monotonic time `now`; None if there is none."""
        return self._reason if now - self._limited_at < max(LIMITED_FOR_S, 2 / (self._wanted.fps or 1)) else None
