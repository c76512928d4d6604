"""The gateway's parts, for whoever serves them; and what is done for an operator, until it is seen to be done."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.oversight import REPLY
from workers.gateway import shown
from workers.gateway.asks import RefusedError, UnansweredError
from workers.gateway.live import View
from workers.gateway.metrics import Exposition
from workers.gateway.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.link import Command
    from workers.gateway.asks import Asks
    from workers.gateway.callback import Callback
    from workers.gateway.fleet import Fleet, Member
    from workers.gateway.health import Broker
    from workers.gateway.snapshots import Snapshots

SEEN_WITHIN_S: Final = 2.0  # what the supervisor has done is told by it a moment later


@dataclass(kw_only=True)
class Desk:
    """Everything that a route may need."""

    site: str
    version: str
    redis_url: str
    prefix: str  # of all names in Redis
    fleet: Fleet
    asks: Asks
    broker: Broker
    snapshots: Snapshots
    callback: Callback
    _exposition: Exposition = field(init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event)  # replaced at each

    def __post_init__(self) -> None:
        self._exposition = Exposition(self.fleet, site=self.site, version=self.version)

    def heed(self, command: Command) -> None:
        """Something has come from the supervisor."""
        if command.verb == REPLY:
            self.asks.answered(command)
        else:
            self.fleet.heed(command, wall=time.time())
            self._news.set()
            self._news = asyncio.Event()

    def camera(self, camera_id: str) -> Member:
        """The camera of that id. Raises `ProblemError`."""
        member = self.fleet.camera(camera_id)
        if member is None:
            raise ProblemError(404, "No camera has this id; GET /api/v1/cameras tells which there are.")
        return member

    def hub(self) -> shown.Hub:
        """The hub now."""
        return shown.hub(
            self.fleet,
            site=self.site,
            version=self.version,
            broker_up=self.broker.up,
            now=time.monotonic(),
            wall=time.time(),
        )

    def view(self) -> View:
        """What viewers see now."""
        return View(
            hub=self.hub(),
            cameras={camera["id"]: camera for camera in shown.cameras(self.fleet)},
            webhooks=shown.webhooks(self.fleet),
        )

    def metrics(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return self._exposition.text(broker_up=self.broker.up)

    async def ask(self, verb: str, /, *, refused_with: int = 409, **arguments: Any) -> None:
        """Have the supervisor do something. Raises `ProblemError`."""
        try:
            await self.asks.ask(verb, **arguments)
        except RefusedError as error:
            raise ProblemError(refused_with, _sentence(str(error))) from error
        except UnansweredError as error:
            raise ProblemError(503, str(error)) from error

    async def seen(self, condition: Callable[[], bool]) -> None:
        """Wait until the fleet shows what was done, or for two seconds: it is done all the same."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEEN_WITHIN_S):
                while not condition():
                    await self._news.wait()


def _sentence(text: str) -> str:
    """The supervisor's words as those of a problem document: it puts them after others'."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
