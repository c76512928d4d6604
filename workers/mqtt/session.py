"""The connection to the MQTT broker: made again whenever it is lost, with the hub's last will in it.

Everything that aiomqtt and paho raise becomes an `AwayError` here. What is published, and when,
is not its matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiomqtt

from nvision_hub.errors import redact
from workers.mqtt.relay import BATCH_EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nvision_hub.config import MqttAddress, Secret

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
ANSWERS_WITHIN_S: Final = 10.0
KEEPALIVE_S: Final = 15  # a broker that has gone without a word is noticed after one and a half of these
_AT_LEAST_ONCE: Final = 1


class AwayError(Exception):
    """The broker cannot be reached, or does not answer any more; the text says why."""


class ClosedError(AwayError):
    """The broker was there, and has closed the connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """Where the broker is, and who we are there."""

    address: MqttAddress
    username: str | None
    password: Secret | None


class Session:
    """One connection that stands."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, and wait until the broker has taken it.

        Raises `AwayError` where it does not answer.
        """
        try:
            await self._client.publish(topic, payload, qos=_AT_LEAST_ONCE, retain=retain)
        except aiomqtt.MqttError as error:
            raise AwayError(str(error)) from error

    async def retained(self, topic_filter: str) -> AsyncIterator[str]:
        """The topics under which something retained stands; goes on for as long as the connection does.

        So this is what notices its end, with `ClosedError`.
        """
        try:
            await self._client.subscribe(topic_filter)
            async for message in self._client.messages:
                if message.retain and message.payload:
                    yield str(message.topic)
        except aiomqtt.MqttError as error:
            raise ClosedError(str(error)) from error


@contextlib.asynccontextmanager
async def connected(account: Account, *, availability: str) -> AsyncIterator[Session]:
    """A connection, with `online` on the `availability` topic while it stands, and `offline` afterwards, come what may.

    Raises `AwayError` where there is none to be had, and what is raised within.
    """
    context = ssl.create_default_context() if account.address.tls else None
    await _reachable(account, context)
    password = account.password or account.address.url.password
    client = aiomqtt.Client(
        account.address.host,
        account.address.port,
        username=account.username or account.address.url.username,
        password=None if password is None else password.reveal(),
        will=aiomqtt.Will(availability, OFFLINE, qos=_AT_LEAST_ONCE, retain=True),
        tls_context=context,
        keepalive=KEEPALIVE_S,
        timeout=ANSWERS_WITHIN_S,
        max_inflight_messages=BATCH_EVENTS,
        logger=_quiet_log(),
    )
    client.pending_calls_threshold = 2 * BATCH_EVENTS  # beyond which the library finds it worth a warning
    try:
        async with client:
            session = Session(client)
            await session.publish(availability, ONLINE, retain=True)
            yield session
            with contextlib.suppress(AwayError):
                await session.publish(availability, OFFLINE, retain=True)  # a will is for those who say no goodbye
    except (aiomqtt.MqttError, ssl.SSLError) as error:
        raise AwayError(str(error)) from error


async def _reachable(account: Account, context: ssl.SSLContext | None) -> None:
    """Make a connection and let go of it: paho makes its own in a thread, which nothing can interrupt."""
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            _, writer = await asyncio.open_connection(account.address.host, account.address.port, ssl=context)
    except TimeoutError as error:
        raise AwayError("it does not answer") from error
    except OSError as error:  # ssl.SSLError is one
        raise AwayError(redact(error.strerror or str(error))) from error
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _quiet_log() -> logging.Logger:
    """Paho tells of every packet; what is worth telling is told by who uses this."""
    quiet = logging.getLogger("nvision_hub.mqtt.packets")
    quiet.setLevel(logging.ERROR)
    return quiet
