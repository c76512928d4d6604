"""One connection to the MQTT broker, with the hub's last will.

The module translates every error of aiomqtt and paho into `MqttUnavailableError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Final

import aiomqtt

from nvision_hub.redaction import redact
from workers.mqtt.event_forwarder import BATCH_EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nvision_hub.config.server_addresses import MqttAddress
    from nvision_hub.config.value_types import Secret

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
RESPONSE_TIMEOUT_S: Final = 10.0
KEEPALIVE_S: Final = 15  # the client detects an unresponsive broker within two intervals
_AT_LEAST_ONCE: Final = 1


class MqttUnavailableError(Exception):
    """The broker is unreachable or no longer responds. The message gives the reason."""


class ClosedError(MqttUnavailableError):
    """The broker closed an established connection."""


class MqttSession:
    """One established connection to the broker."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish a message and wait for its acknowledgment. Raises `MqttUnavailableError` if none arrives."""
        try:
            await self._client.publish(topic, payload, qos=_AT_LEAST_ONCE, retain=retain)
        except aiomqtt.MqttError as error:
            raise MqttUnavailableError(str(error)) from error

    async def retained(self, topic_filter: str) -> AsyncIterator[str]:
        """Yield the topics of retained messages. When the connection ends, raises `ClosedError`."""
        try:
            await self._client.subscribe(topic_filter)
            async for message in self._client.messages:
                if message.retain and message.payload:
                    yield str(message.topic)
        except aiomqtt.MqttError as error:
            raise ClosedError(str(error)) from error


@contextlib.asynccontextmanager
async def connected(
    address: MqttAddress, username: str | None, password: Secret | None, *, availability: str
) -> AsyncIterator[MqttSession]:
    """Connect to the broker and yield the session.

    The topic `availability` has the value `online` during the session and `offline` after it, even after a crash.
    Raises `MqttUnavailableError` if the connection fails. Other errors from within the context stay unchanged.
    """
    context = ssl.create_default_context() if address.tls else None
    await _check_reachable(address, context)
    password = password or address.password
    packet_log = logging.getLogger("nvision_hub.mqtt.packets")
    packet_log.setLevel(logging.ERROR)  # paho would log a line for every packet
    client = aiomqtt.Client(
        address.host,
        address.dialed_port,
        username=username or address.username,
        password=None if password is None else password.reveal(),
        will=aiomqtt.Will(availability, OFFLINE, qos=_AT_LEAST_ONCE, retain=True),
        tls_context=context,
        keepalive=KEEPALIVE_S,
        timeout=RESPONSE_TIMEOUT_S,
        max_inflight_messages=BATCH_EVENTS,
        logger=packet_log,
    )
    client.pending_calls_threshold = 2 * BATCH_EVENTS  # above this number, the library logs a warning
    try:
        async with client:
            session = MqttSession(client)
            await session.publish(availability, ONLINE, retain=True)
            yield session
            with contextlib.suppress(MqttUnavailableError):
                # The broker does not publish the will after a clean disconnect, so publish `offline` here.
                await session.publish(availability, OFFLINE, retain=True)
    except (aiomqtt.MqttError, ssl.SSLError) as error:
        raise MqttUnavailableError(str(error)) from error


async def _check_reachable(address: MqttAddress, context: ssl.SSLContext | None) -> None:
    """Open and close a test connection. paho connects in a thread that cannot be interrupted."""
    try:
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(address.host, address.dialed_port, ssl=context)
    except TimeoutError as error:
        raise MqttUnavailableError("no answer") from error
    except OSError as error:  # includes ssl.SSLError
        raise MqttUnavailableError(redact(error.strerror or str(error))) from error
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
