"""Delivery of results to a callback URL, which replaces delivery over the stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx2

from nvision_hub.backoff import Backoff
from nvision_hub.metrics import catalogue

if TYPE_CHECKING:
    from nvision_hub.metrics.meter import Meter

MAX_QUEUED: Final = 500  # maximum number of results; if the queue is full, the service drops and counts new results
SENDERS: Final = 4
MAX_ATTEMPTS: Final = 3
TIMEOUT_S: Final = 10.0
CALLBACK_DRAIN_TIMEOUT_S: Final = 1.0

_log = logging.getLogger("nvision_hub.service")


class Callbacks:
    """Queue of results for one URL, and the senders that post each result as JSON."""

    def __init__(self, url: str, meter: Meter) -> None:
        self._url = url
        parts = urlsplit(url)
        # The log shows only this part of the URL, because the rest of the URL may contain a token.
        self._host = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._count = partial(meter.count, catalogue.SERVICE_CALLBACKS_TOTAL)
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(MAX_QUEUED)
        self._in_flight = 0
        self._failing = False

    def post(self, result: dict[str, Any]) -> None:
        """Queue one result. If the queue is full, drop and count the result."""
        try:
            self._queue.put_nowait(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode())
        except asyncio.QueueFull:
            self._count(outcome="lost_queue_full")

    async def run(self) -> None:
        """Post queued results until canceled."""
        # Results must reach only the configured host, so the client follows no redirects.
        headers = {"content-type": "application/json"}
        async with httpx2.AsyncClient(
            timeout=TIMEOUT_S, follow_redirects=False, trust_env=False, headers=headers
        ) as client:
            await asyncio.gather(*(self._send(client) for _ in range(SENDERS)))

    async def drain(self) -> None:
        """Wait at most `CALLBACK_DRAIN_TIMEOUT_S` until all queued results are posted. Count the rest as lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALLBACK_DRAIN_TIMEOUT_S):
                await self._queue.join()
        if lost := self._queue.qsize() + self._in_flight:
            self._count(lost, outcome="lost_at_end")
            _log.warning(
                "%d results not posted to %s: the service stopped", lost, self._host, extra={"event": "callbacks_lost"}
            )

    async def _send(self, client: httpx2.AsyncClient) -> None:
        while True:
            body = await self._queue.get()
            self._in_flight += 1
            try:
                self._count(outcome="delivered" if await self._deliver(client, body) else "given_up")
            finally:
                self._in_flight -= 1
                self._queue.task_done()

    async def _deliver(self, client: httpx2.AsyncClient, body: bytes) -> bool:
        delays = Backoff(first_s=0.2, cap_s=5.0)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                response = await client.post(self._url, content=body)
            except (httpx2.HTTPError, OSError) as error:
                reason = type(error).__name__
            else:
                if response.is_success:
                    self._failing = False
                    return True
                reason = f"HTTP {response.status_code}"
                if not (response.is_server_error or response.status_code == httpx2.codes.TOO_MANY_REQUESTS):
                    break  # a retry with the same body would also fail
            if attempt < MAX_ATTEMPTS:
                await asyncio.sleep(delays.next_s())
        if not self._failing:  # log only the first failure, so that an unreachable receiver does not flood the log
            self._failing = True
            _log.warning(
                "callback to %s failed: %s; results are lost until the receiver recovers",
                self._host,
                reason,
                extra={"event": "callback_failed"},
            )
        return False
