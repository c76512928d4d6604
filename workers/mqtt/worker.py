"""MQTT worker: publishes results, track events and camera states to one MQTT broker."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from nvision_hub.backoff import Backoff
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.process_stats import ProcessStats
from nvision_hub.runtime.status import Deadline, MqttInfo, Status
from nvision_hub.runtime.worker import DrainStep, run_worker
from workers.mqtt.event_forwarder import RESULTS, TRACKS, EventForwarder
from workers.mqtt.retained_state import RetainedState
from workers.mqtt.topics import Topics

if TYPE_CHECKING:
    from nvision_hub.broker.client import RedisSettings
    from nvision_hub.config.server_addresses import MqttAddress
    from nvision_hub.config.value_types import Secret
    from nvision_hub.runtime.messages import Message
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
    from workers.mqtt.session import MqttSession

log = logging.getLogger("nvision_hub.mqtt")

LOOP_TIMEOUT_S: Final = 10.0
REFRESH_INTERVAL_S: Final = 2.0
DRAIN_TIMEOUT_S: Final = 1.0  # time to publish the last events of the cameras when the worker stops
DISCONNECT_TIMEOUT_S: Final = 1.0  # time to publish `offline` when the worker stops


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttSettings:
    """Settings of the connection to one MQTT broker, and of the messages to publish."""

    address: MqttAddress
    username: str | None
    password: Secret | None = field(repr=False)
    prefix: str
    site: str
    discovery: bool  # whether to publish discovery messages for Home Assistant
    stream: RedisSettings


def run(settings: MqttSettings, pipe: SupervisorPipe) -> None:
    """Publish results and states until the supervisor requests a stop."""
    asyncio.run(_Bridge(settings).live(pipe))


class _Bridge:
    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self._topics = Topics(prefix=settings.prefix, site=settings.site)
        self._meter = Meter()
        self._results = EventForwarder(settings.stream, self._meter, RESULTS)
        self._tracks = EventForwarder(settings.stream, self._meter, TRACKS)
        self._forwarders = (self._results, self._tracks)
        self._state = RetainedState(self._topics, discovery=settings.discovery, now=time.monotonic())
        self._stats = ProcessStats(self._meter)
        self._backoff = Backoff(first_s=0.5, cap_s=30.0, healthy_s=30.0)
        self._connected = False
        self._error: str | None = "the MQTT broker has not answered yet"
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()

    async def live(self, pipe: SupervisorPipe) -> None:
        bridge = asyncio.create_task(self._bridge())

        async def disconnect() -> None:
            if self._connected:
                self._ending.set()
                await asyncio.wait({bridge})

        try:
            await run_worker(
                pipe,
                self._snapshot,
                tasks={"bridge": bridge, "queue": self._refresh()},
                on_message=self._on_message,
                drain=[
                    DrainStep(run=self._catch_up, timeout_s=DRAIN_TIMEOUT_S),
                    DrainStep(run=disconnect, timeout_s=DISCONNECT_TIMEOUT_S),
                ],
            )
        finally:
            await asyncio.gather(*(each.close() for each in self._forwarders))

    async def _catch_up(self) -> None:
        """If the broker is connected, wait until the last events of the cameras are published."""
        if self._connected:
            await asyncio.gather(*(each.caught_up.wait() for each in self._forwarders))

    def _on_message(self, message: Message) -> None:
        self._state.on_message(message, wall=time.time())
        self._changed.set()

    async def _bridge(self) -> None:
        from workers.mqtt import session  # noqa: PLC0415 - needs the extra `mqtt`

        await asyncio.gather(*(each.join() for each in self._forwarders))
        address, username, password = self._settings.address, self._settings.username, self._settings.password
        while not self._ending.is_set():
            try:
                async with session.connected(
                    address, username, password, availability=self._topics.availability
                ) as connection:
                    self._connected, self._error = True, None
                    log.info("connected to the MQTT broker at %s", address.shown, extra={"event": "mqtt_connected"})
                    await self._serve(connection)
            except* session.MqttUnavailableError as failed:
                if failed.subgroup(session.ClosedError):
                    for each in self._forwarders:
                        each.on_connection_closed()
                self._on_disconnected(_reason(failed))
            if not self._ending.is_set():
                await asyncio.sleep(self._backoff.next_s())

    async def _serve(self, connection: MqttSession) -> None:
        """Publish over one connection until the connection is lost or the bridge ends."""

        async def publish_result(camera: str, event: bytes) -> None:
            await connection.publish(self._topics.results(camera), event)

        async def publish_track_event(camera: str, event: bytes) -> None:
            await connection.publish(self._topics.tracks(camera), event)

        turn = asyncio.Lock()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._read_retained(connection)),
                group.create_task(self._publish_state(connection)),
                group.create_task(self._results.run(publish_result, turn)),
                group.create_task(self._tracks.run(publish_track_event, turn)),
            ]
            await self._ending.wait()
            for task in tasks:
                task.cancel()

    async def _read_retained(self, connection: MqttSession) -> None:
        async for topic in connection.retained(self._topics.all_states):
            self._state.on_retained(topic)

    async def _publish_state(self, connection: MqttSession) -> None:
        """Publish all retained messages. After that, publish each message that changes, until canceled."""
        published: dict[str, bytes] = {}  # per connection, because a restarted broker may have lost its messages
        while True:
            self._changed.clear()
            for topic, payload in list(self._state.messages.items()):
                if published.get(topic) != payload:
                    await connection.publish(topic, payload, retain=True)
                    published[topic] = payload
                    self._state.on_published(topic, payload)
            await self._changed.wait()

    async def _refresh(self) -> None:
        while True:
            pending = [await each.count_pending() for each in self._forwarders]
            self._meter.set_gauge(catalogue.MQTT_PENDING, sum(pending))
            self._state.delete_unknown(time.monotonic())
            self._changed.set()
            if self._connected:
                self._backoff.healthy(time.monotonic())
            await asyncio.sleep(REFRESH_INTERVAL_S)

    def _on_disconnected(self, reason: str) -> None:
        sentence = f"the MQTT broker at {self._settings.address.shown} is unavailable ({reason}); results wait in Redis"
        if sentence != self._error:
            log.warning("%s", sentence, extra={"event": "mqtt_disconnected"})
        self._connected, self._error = False, sentence

    def _snapshot(self) -> Status:
        self._stats.update()
        return Status(
            state="running" if self._connected else "connecting",
            ready=self._connected,
            error=self._error or self._results.error or self._tracks.error,
            deadlines={"event loop": Deadline(at=time.monotonic(), timeout_s=LOOP_TIMEOUT_S)},
            metrics=self._meter.snapshot(),
            info=MqttInfo(broker=self._settings.address.shown),
        )


def _reason(failed: BaseExceptionGroup[Exception]) -> str:
    """Return the message of the first error. Several tasks may report the loss of the same connection."""
    first: BaseException = failed
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)
