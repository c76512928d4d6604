"""Whether the hub does its job, with the reasons where it does not. Asks Redis itself; the rest the fleet knows."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.broker.publisher import connect
from workers.gateway.fleet import SERVICE

if TYPE_CHECKING:
    from nvision_hub.broker.publisher import Stream
    from workers.gateway.fleet import Fleet

ASKED_EVERY_S: Final = 2.0


class Broker:
    """Redis, asked every two seconds. `run` is its task."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.up = False

    async def run(self) -> None:
        """Ask, for ever."""
        client = connect(self._stream.url)
        try:
            while True:
                try:
                    await client.ping()
                except (RedisError, OSError):
                    self.up = False
                else:
                    self.up = True
                await asyncio.sleep(ASKED_EVERY_S)
        finally:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()


def reasons(fleet: Fleet, *, broker_up: bool) -> list[str]:
    """Why the hub is not ready, a sentence each; none where it is. They name no camera: anybody may read them."""
    found = []
    if not broker_up:
        found.append("Redis does not answer.")
    service = fleet.members.get(SERVICE)
    if service is not None and not service.ready:
        found.append("The local service does not answer.")
    cameras = fleet.cameras()
    if not any(member.ready for member in cameras):
        found.append("No camera streams." if cameras else "There are no cameras.")
    return found
