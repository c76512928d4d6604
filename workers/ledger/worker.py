"""Ledger worker: grants images to camera workers over a Unix socket, and stores the usage on disk.

Each camera worker has one connection. An image counts as used from the time of its grant. If the connection ends before
the camera has reported a granted image, the image counts as written off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub.budget.account_rate import WINDOW_S
from nvision_hub.budget.allocator import Allocator, CameraBudget, SiteBudget
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
from nvision_hub.budget.period_budget import Instant
from nvision_hub.errors import UnavailableError
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.process_stats import ProcessStats
from nvision_hub.runtime.status import Deadline, Status
from nvision_hub.runtime.unix_socket import unix_listener
from nvision_hub.runtime.worker import DrainStep, run_worker
from workers.ledger.usage_store import UsageKey, UsageStore, UsedImages, slot_of

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

log = logging.getLogger("nvision_hub.ledger")

LOOP_TIMEOUT_S: Final = 10.0
COMMIT_INTERVAL_S: Final = 1.0
COMMIT_TIMEOUT_S: Final = 2.0  # for the last commit when the worker stops
MIN_WAIT_S: Final = 0.002
RESERVE_S: Final = 5.0  # time that a camera's reserve lasts at its rate, so that a commit may take half of this time
RESERVE_SHARE: Final = 0.01  # fraction of the remaining images; a crash writes off at most this fraction per camera
IDLE_S: Final = 5.0  # an image that was granted before this time has already arrived at the service
FILE_NAME: Final = "usage.sqlite3"


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerSettings:
    """Limits on the site, and the directory of the ledger's socket and database."""

    site: SiteBudget
    directory: Path


def run(settings: LedgerSettings, pipe: SupervisorPipe) -> None:
    """Grant images until the supervisor requests a stop."""
    asyncio.run(_Ledger(settings).live(pipe))


@dataclass(eq=False)
class _LedgerClient:
    """Connection of one camera worker."""

    writer: asyncio.StreamWriter
    camera: str = ""  # empty before the first message
    delayed_by: str | None = None  # the last limit that was reported

    def send(self, message: LedgerMessage) -> None:
        self.writer.write(encode_line(message))


class _Ledger:
    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._meter = Meter()
        self._stats = ProcessStats(self._meter)
        self._clients: dict[str, _LedgerClient] = {}  # by camera
        self._wanted: dict[str, CameraBudget] = {}
        self._unsaved: defaultdict[UsageKey, UsedImages] = defaultdict(UsedImages)
        self._saving: dict[UsageKey, UsedImages] = {}  # usage in the current commit; empty while no commit runs
        # Number of images that each camera may still receive before the next commit.
        self._reserves: dict[str, int] = {}
        self._must_commit = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._commit_task: asyncio.Task[None] | None = None  # the last commit
        self._error: str | None = None  # error of the last commit
        self._read_error: str | None = None
        self._opens = float("-inf")  # monotonic time at which grants begin

    async def live(self, pipe: SupervisorPipe) -> None:
        now = _now()
        file = self._settings.directory / FILE_NAME
        try:
            self._store = UsageStore(file, self._settings.site.time_zone)
            recovery = self._store.recover(now)
        except (sqlite3.Error, OSError) as error:
            raise UnavailableError(
                f"{file} cannot be used ({error}), so no camera sends; check the space and permissions of state_dir, "
                "or remove the file, which renews all limits"
            ) from error
        for camera, images in recovery.written_off.items():
            message = "the ledger ended unexpectedly: %d images of %s are written off"
            log.warning(message, images, camera, extra={"event": "images_written_off"})
            self._count_written_off(images)
        if self._settings.site.per_second and recovery.idle_s < IDLE_S:  # the cameras may have sent images just before
            self._opens = now.mono + WINDOW_S
        self._allocator = Allocator(self._settings.site, self._count, recovery.instant, recovery.holds)
        self._allocator.update(now)
        listener = unix_listener(self._settings.directory / SOCKET_NAME)
        server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE_BYTES)
        try:
            await run_worker(
                pipe,
                self._snapshot,
                tasks={"commits": self._commit_regularly()},
                started=self._wait_until_open,
                drain=[
                    "commits",
                    DrainStep(run=self._settle, timeout_s=COMMIT_TIMEOUT_S, after_failure=True),
                ],
            )
        finally:
            server.close()
            self._store.close()

    async def _wait_until_open(self) -> None:
        """Delay the first report. Cameras that start earlier would have to withhold frames."""
        await asyncio.sleep(self._opens - _now().mono)

    def _count(self, camera: str | None, begin: float, end: float) -> int:
        unsaved = [
            each.images + each.written_off
            for rows in (self._unsaved, self._saving)
            for key, each in rows.items()
            if camera in {None, key.camera} and begin <= key.slot < end
        ]
        try:
            stored = self._store.count(camera, begin, end)
        except sqlite3.Error as error:
            if self._read_error is None:
                log.error("the usage of images cannot be read: %s", error, extra={"event": "usage_not_read"})  # noqa: TRY400 - no traceback
            self._read_error = f"the usage of images cannot be read: {error}; check the disk of state_dir"
            raise
        self._read_error = None
        return stored + sum(unsaved)

    # Connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _LedgerClient(writer)
        try:
            with contextlib.suppress(ConnectionError, sqlite3.Error):  # the camera reconnects
                while line := await reader.readline():
                    self._receive(client, decode_line(line))
        except ValueError as error:  # the line is malformed or too long
            log.warning("%s; the connection is closed", error, extra={"event": "message_malformed"})
        finally:
            writer.close()
            self._forget(client)

    def _receive(self, client: _LedgerClient, message: LedgerMessage) -> None:
        now, camera = _now(), client.camera
        match message:
            case WantImages():
                self._want(client, message, now)
            case _ if self._clients.get(camera) is not client:
                raise ValueError("a camera without `WantImages` sent a message")
            case RequestImage() if camera in self._wanted:
                self._allocator.request(camera, now)
            case ImageSent(age_s=age_s):
                if self._allocator.on_sent(camera, now.mono - max(0.0, age_s)):
                    self._meter.count(catalogue.IMAGES_SENT_TOTAL)
            case ImageReturned():
                if self._allocator.on_returned(camera):
                    self._use(camera, now, -1)
        self._grant()

    def _want(self, client: _LedgerClient, message: WantImages, now: Instant) -> None:
        camera = client.camera = message.camera
        if (earlier := self._clients.get(camera)) is not None and earlier is not client:
            self._forget(earlier)  # close the connection of a worker that has ended
            earlier.writer.close()
        self._clients[camera] = client
        if message.fps > 0:
            wanted = CameraBudget(
                service=message.service,
                fps=message.fps,
                priority=message.priority,
                per_period=message.per_period,
            )
            self._wanted[camera] = wanted
            self._allocator.set_camera(camera, wanted, now)
            self._must_commit.set()  # the commit creates the camera's reserve
        else:
            self._leave(camera, now)

    def _forget(self, client: _LedgerClient) -> None:
        if client.camera and self._clients.get(client.camera) is client:
            del self._clients[client.camera]
            self._leave(client.camera, _now())
            self._grant()

    def _leave(self, camera: str, now: Instant) -> None:
        """Remove a camera that is paused or no longer exists."""
        self._wanted.pop(camera, None)
        if lost := self._allocator.remove_camera(camera, now):
            self._use(camera, now, -lost, written_off=lost)
            self._count_written_off(lost)

    # Grants

    def _grant(self) -> None:
        """Grant all images that are allowed now, and schedule the next call of this method."""
        wait_s = COMMIT_INTERVAL_S
        with contextlib.suppress(sqlite3.Error):  # `_count` has already reported the error
            wait_s = min(max(self._grant_now(_now()), MIN_WAIT_S), COMMIT_INTERVAL_S)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._grant)

    def _grant_now(self, now: Instant) -> float:
        """Grant all images that are allowed now. Return the seconds until more images may be allowed."""
        if now.mono < self._opens:
            return self._opens - now.mono
        for camera in self._allocator.grant(now, self._has_reserve):
            self._use(camera, now, 1)
            self._reserves[camera] -= 1
            if self._reserves[camera] <= self._wanted_reserve(camera) / 2:
                self._must_commit.set()  # commit early enough for a slow disk
            self._clients[camera].delayed_by = None
            self._clients[camera].send(ImageGranted())
        self._report_delays()
        # A time of 0 means that a camera waits for a commit. After the commit, `_grant` runs again.
        return self._allocator.wait_s(now) or COMMIT_INTERVAL_S

    def _has_reserve(self, camera: str) -> bool:
        if self._reserves.get(camera, 0) > 0:
            return True
        self._must_commit.set()
        return False

    def _report_delays(self) -> None:
        for camera in self._allocator.changed:
            client, reason = self._clients.get(camera), self._allocator.limited_by(camera)
            if client is not None and reason is not None and reason != client.delayed_by:
                client.delayed_by = reason
                client.send(ImageDelayed(limited_by=reason))

    def _use(self, camera: str, now: Instant, images: int, *, written_off: int = 0) -> None:
        row = self._unsaved[UsageKey(slot_of(now.wall), camera)]
        row.images += images
        row.written_off += written_off

    def _count_written_off(self, images: int) -> None:
        self._meter.count(catalogue.IMAGES_WRITTEN_OFF_TOTAL, images)
        self._meter.count(catalogue.IMAGES_SENT_TOTAL, images)  # these images may have been sent

    # Commits

    async def _commit_regularly(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMIT_INTERVAL_S):
                    await self._must_commit.wait()
            self._must_commit.clear()
            # The reserve also covers grants during the commit.
            reserves = {name: max(self._wanted_reserve(name), self._reserves.get(name, 0)) for name in self._wanted}
            if self._unsaved or reserves != self._reserves:
                await self._commit(reserves)
                self._grant()
                # Otherwise, cameras without a reserve would immediately request another commit.
                if self._error is not None:
                    await asyncio.sleep(COMMIT_INTERVAL_S)

    def _wanted_reserve(self, camera: str) -> int:
        images = round(self._wanted[camera].fps * RESERVE_S)
        if (left := self._allocator.left(camera)) is not None:
            images = min(images, int(left * RESERVE_SHARE))
        return max(1, images)

    async def _commit(self, reserves: dict[str, int]) -> None:
        """Store the usage and the reserves. If the caller is canceled, the commit still continues."""
        if self._commit_task is not None:
            await asyncio.wait({self._commit_task})
        self._commit_task = asyncio.create_task(self._store_usage(reserves))
        await asyncio.shield(self._commit_task)

    async def _store_usage(self, reserves: dict[str, int]) -> None:
        self._saving, self._unsaved = dict(self._unsaved), defaultdict(UsedImages)
        before, now = dict(self._reserves), _now()
        try:
            # The allocator must notice a jump of the clock before the store saves the new clock.
            self._allocator.update(now)
            holds = self._allocator.holds(now)
            await asyncio.to_thread(self._store.commit, self._saving, reserves, now, holds)
        except sqlite3.Error as error:
            self._error = f"the usage of images cannot be stored: {error}; check the space and permissions of state_dir"
            log.error("%s", self._error, extra={"event": "usage_not_stored"})  # noqa: TRY400 - no traceback
        else:
            self._saving = {}
            # The rows do not contain grants during the commit, but the reserve on disk covers them.
            self._reserves = {
                camera: images - (before.get(camera, 0) - self._reserves.get(camera, 0))
                for camera, images in reserves.items()
            }
            self._error = None
        finally:
            for key, each in self._saving.items():  # empty after a successful commit
                self._unsaved[key].images += each.images
                self._unsaved[key].written_off += each.written_off
            self._saving = {}

    async def _settle(self) -> None:
        """Store the usage without reserves, so that a restart writes nothing off."""
        for client in list(self._clients.values()):
            self._forget(client)
        if self._timer is not None:
            self._timer.cancel()
        await self._commit({})

    def _snapshot(self) -> Status:
        for camera, budget in self._allocator.budgets():
            labels = {"camera": camera or "", "window": str(budget.period)}
            self._meter.set_gauge(catalogue.BUDGET_USED_IMAGES, budget.used, **labels)
            self._meter.set_gauge(catalogue.BUDGET_LIMIT_IMAGES, budget.limit, **labels)
        self._stats.update()
        return Status(
            state="running",
            ready=True,
            error=self._error or self._read_error,
            deadlines={"event loop": Deadline(at=time.monotonic(), timeout_s=LOOP_TIMEOUT_S)},
            metrics=self._meter.snapshot(),
        )


def _now() -> Instant:
    return Instant(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))
