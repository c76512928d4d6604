"""Joins the bridge's parts: results from the stream, notices of the cameras, one connection to the MQTT broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from nvision_hub.backoff import Backoff
from nvision_hub.link import Link, status_basis
from nvision_hub.status import Meter, Promise, Status
from nvision_hub.usage import Usage
from workers.mqtt.notice_board import NoticeBoard
from workers.mqtt.relay import Relay
from workers.mqtt.topics import Topics

if TYPE_CHECKING:
    from nvision_hub.broker.connection import Stream
    from nvision_hub.config import MqttAddress, Secret
    from nvision_hub.link import Command
    from workers.mqtt.session import Session

log = logging.getLogger("nvision_hub.mqtt")

LOOP_WITHIN_S: Final = 10.0
LOOKED_EVERY_S: Final = 2.0
DRAINED_WITHIN_S: Final = 1.0  # at a stop, for what the cameras have published last
GOODBYE_WITHIN_S: Final = 1.0  # at a stop, for telling the broker


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttSettings:
    """One broker, and what it is told of one hub."""

    address: MqttAddress
    username: str | None
    password: Secret | None = field(repr=False)
    prefix: str
    site: str
    discovery: bool  # whether Home Assistant is told which cameras there are
    stream: Stream


def run(settings: MqttSettings, link: Link) -> int:
    """Pass everything on until asked to end."""
    return asyncio.run(_Bridge(settings).live(link))


class _Bridge:
    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self._topics = Topics(prefix=settings.prefix, site=settings.site)
        self._meter = Meter()
        self._usage = Usage(self._meter)
        self._backoff = Backoff(first_s=0.5, cap_s=30.0, healthy_s=30.0)
        self._connected = False
        self._error: str | None = "the MQTT broker has not answered yet"
        self._posted: dict[str, bytes] = {}  # what stands on the broker, as far as is known
        self._news = asyncio.Event()
        self._ending = asyncio.Event()

    async def live(self, link: Link) -> int:
        self._relay = Relay(self._settings.stream, self._meter)
        self._board = NoticeBoard(self._topics, discovery=self._settings.discovery, now=time.monotonic())
        reporting = asyncio.create_task(link.run(self._snapshot, self._heed))
        bridging = asyncio.create_task(self._bridge())
        looking = asyncio.create_task(self._look())
        tasks = (reporting, bridging, looking)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if reporting.done() and self._connected:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAINED_WITHIN_S):
                    await self._relay.caught_up.wait()
            self._ending.set()
            await asyncio.wait({bridging}, timeout=GOODBYE_WITHIN_S)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        await self._relay.close()
        for end in ends:
            if isinstance(end, Exception):
                raise end
        return 0

    def _heed(self, command: Command) -> None:
        self._board.heed(command, wall=time.time())
        self._news.set()

    async def _bridge(self) -> None:
        # Loaded here: only this process has a use for it, and only where the extra is installed.
        from workers.mqtt import session  # noqa: PLC0415

        await self._relay.join()
        account = session.Account(
            address=self._settings.address, username=self._settings.username, password=self._settings.password
        )
        while not self._ending.is_set():
            try:
                async with session.connected(account, availability=self._topics.availability) as standing:
                    self._stands()
                    await self._serve(standing)
            except* session.ClosedError as closed:
                self._relay.cut_off()
                self._lost(_reason(closed))
            except* session.AwayError as away:
                self._lost(_reason(away))
            if not self._ending.is_set():
                await asyncio.sleep(self._backoff.next_s())

    async def _serve(self, standing: Session) -> None:
        """All there is to do on one connection, until it is lost or the end has come."""

        async def publish(camera: str, event: bytes) -> None:
            await standing.publish(self._topics.results(camera), event)

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._find(standing)),
                group.create_task(self._post(standing)),
                group.create_task(self._relay.run(publish)),
            ]
            await self._ending.wait()
            for task in tasks:
                task.cancel()

    async def _find(self, standing: Session) -> None:
        async for topic in standing.retained(self._topics.every_state):
            self._board.found(topic)

    async def _post(self, standing: Session) -> None:
        """Keep on the broker what stands on the board."""
        while True:
            self._news.clear()
            for topic, notice in list(self._board.notices.items()):
                if self._posted.get(topic) != notice:
                    await standing.publish(topic, notice, retain=True)
                    self._posted[topic] = notice
                    self._board.posted(topic, notice)
            await self._news.wait()

    async def _look(self) -> None:
        while True:
            await self._relay.count_pending()
            self._board.tidy(time.monotonic())
            self._news.set()
            if self._connected:
                self._backoff.healthy(time.monotonic())
            await asyncio.sleep(LOOKED_EVERY_S)

    def _stands(self) -> None:
        self._connected, self._error = True, None
        self._posted.clear()  # the broker may have forgotten, or be another one
        log.info("connected to the MQTT broker at %s", self._settings.address.shown)

    def _lost(self, reason: str) -> None:
        self._backoff.failed()
        sentence = f"the MQTT broker at {self._settings.address.shown} is not there ({reason}); results wait in Redis"
        if sentence != self._error:
            log.warning("%s", sentence)
        self._connected, self._error = False, sentence

    def _snapshot(self) -> Status:
        state = "running" if self._connected else "connecting"
        self._usage.note()
        return Status(
            **status_basis(state),
            ready=self._connected,
            error=self._error or self._relay.error,
            promises={"event loop": Promise(at=time.monotonic(), within_s=LOOP_WITHIN_S)},
            metrics=self._meter.snapshot(),
            row={"broker": self._settings.address.shown},
        )


def _reason(failed: BaseExceptionGroup[Exception]) -> str:
    """The first of several ways in which the same connection was found to be lost."""
    first: BaseException = failed
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)
