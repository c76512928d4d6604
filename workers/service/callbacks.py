"""Results posted to a callback URL, where one is set, instead of going back on the stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import httpx2

from nvision_hub.backoff import Backoff

if TYPE_CHECKING:
    from types import TracebackType

    from nvision_hub.status import Meter

MOST_WAITING: Final = 500  # results; a receiver that stays behind loses the newest, counted
SENDERS: Final = 4
TRIES: Final = 3
TIMEOUT_S: Final = 10.0
DRAIN_S: Final = 1.0
_BUSY: Final = 429
_SERVER_ERROR: Final = 500

_log = logging.getLogger("nvision_hub.service")


class Callbacks:
    """Posts each result as JSON, a few at a time; an async context whose end gives what waits one second more."""

    def __init__(self, url: str, meter: Meter) -> None:
        self._url = url
        parts = urlsplit(url)
        # For the log: the rest of the address may hold a token.
        self._place = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._meter = meter
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        self._in_hand = 0
        self._failing = False

    async def __aenter__(self) -> Self:
        # Redirects are not followed: a result goes where it was meant to go, or nowhere.
        self._client = httpx2.AsyncClient(
            timeout=TIMEOUT_S,
            follow_redirects=False,
            trust_env=False,
            limits=httpx2.Limits(max_connections=SENDERS, max_keepalive_connections=SENDERS),
            headers={"content-type": "application/json"},
        )
        self._senders = [asyncio.create_task(self._send()) for _ in range(SENDERS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._waiting.join()
        lost = self._waiting.qsize() + self._in_hand
        if lost:
            self._count("lost_at_end", lost)
            _log.warning("%d results were not posted to %s before the end.", lost, self._place)
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        await self._client.aclose()

    def post(self, result: dict[str, Any]) -> None:
        """Queue one result; counted as lost where too many wait already."""
        try:
            self._waiting.put_nowait(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode())
        except asyncio.QueueFull:
            self._count("lost_queue_full")

    async def _send(self) -> None:
        while True:
            body = await self._waiting.get()
            self._in_hand += 1
            try:
                self._count("delivered" if await self._deliver(body) else "given_up")
            finally:
                self._in_hand -= 1
                self._waiting.task_done()

    async def _deliver(self, body: bytes) -> bool:
        delays = Backoff(first_s=0.2, cap_s=5.0)
        for attempt in range(1, TRIES + 1):
            try:
                answer = await self._client.post(self._url, content=body)
            except (httpx2.HTTPError, OSError) as error:
                reason = type(error).__name__
            else:
                if answer.is_success:
                    self._failing = False
                    return True
                reason = f"HTTP {answer.status_code}"
                if answer.status_code != _BUSY and answer.status_code < _SERVER_ERROR:
                    self._tell(reason)  # it would refuse the same body again
                    return False
            if attempt < TRIES:
                await asyncio.sleep(delays.next_s())
        self._tell(reason)
        return False

    def _tell(self, reason: str) -> None:
        """Once for each time it begins to fail: a receiver that is away would otherwise fill the log."""
        if not self._failing:
            self._failing = True
            _log.warning("The callback at %s does not take results: %s.", self._place, reason)

    def _count(self, outcome: str, by: int = 1) -> None:
        self._meter.count("service_callbacks_total", by, outcome=outcome)
