"""The webhooks process as a real child of the test's, fed through a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from nvision_hub import events
from nvision_hub.broker import deliveries
from nvision_hub.broker.publisher import Stream, connect
from nvision_hub.child import Child, ChildSpec
from nvision_hub.config import Webhook
from nvision_hub.link import Command
from tests.support.receiver import SECRET
from workers.webhooks import webhooks as dispatcher
from workers.webhooks.schedule import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nvision_hub.status import Status

PREFIX: Final = "site"
SOON_S: Final = 30.0


def webhook(webhook_id: str, url: str, **more: Any) -> Webhook:
    """A webhook as cameras.yaml would have it, that may reach loopback."""
    return Webhook.model_validate({"id": webhook_id, "url": url, "secret": SECRET, "allow_private": True, **more})


def event(number: int = 0, *found: tuple[str, float], camera: str = "lobby", faces: bool = False) -> dict[str, Any]:
    """A result's event, with detections of these names and confidences."""
    box = {"left": 10, "top": 20, "right": 110, "bottom": 220}
    detections = [{"name": n, "parent": "", "confidence": c, "bounding_box": box} for n, c in found]
    own_id = events.new_id()
    return {
        "service_id": "s",
        "source_id": camera,
        "frame_id": own_id,
        "detected_objects": [] if faces else detections,
        **({"detected_faces": detections} if faces else {}),
        "hub": {"id": own_id, "site": "test", "camera": camera, "labels": {}, "sequence": number, "name": "Tür"},
    }


@dataclass(kw_only=True)
class Dispatcher:
    """One webhooks process, and the Redis that it reads."""

    url: str
    webhooks: Sequence[Webhook]
    pace: Pace = field(default_factory=Pace)
    max_entries: int = 100_000
    child: Child | None = None
    last: Status | None = None

    def start(self, since: datetime | None = None) -> None:
        """Start it, and return once its groups are there. `since` is when it was asked for, now where None."""
        settings = dispatcher.WebhooksSettings(
            webhooks=tuple(self.webhooks),
            stream=Stream(url=self.url, prefix=PREFIX, max_entries=self.max_entries),
            site="test",
            pace=self.pace,
            since=since or datetime.now(UTC),
        )
        self.last = None
        self.child = Child(ChildSpec(name="webhooks", stage=0, entry=dispatcher.run, settings=settings))
        self.wait_for(lambda status: status.ready)

    def wait_for(self, condition: Callable[[Status], bool], within_s: float = SOON_S) -> Status:
        """Wait for a report that meets the condition."""
        assert self.child is not None
        deadline = time.monotonic() + within_s
        while True:
            status = self.child.receive().status
            if status is not None:
                self.last = status
                if condition(status):
                    return status
            assert time.monotonic() < deadline, f"not within {within_s} s: {self.last}"
            self.child.ended_within(0.01)

    def row(self, webhook_id: str | None = None) -> dict[str, Any]:
        """A webhook's row as last reported, the first one's where None."""
        assert self.last is not None
        rows: list[dict[str, Any]] = self.last.row["webhooks"]
        return next(row for row in rows if webhook_id in {None, row["id"]})

    def wait_for_row(
        self, condition: Callable[[dict[str, Any]], bool], webhook_id: str | None = None, *, within_s: float = SOON_S
    ) -> dict[str, Any]:
        """Wait for a report in which a webhook's row meets the condition."""

        def met(status: Status) -> bool:
            self.last = status
            return condition(self.row(webhook_id))

        self.wait_for(met, within_s)
        return self.row(webhook_id)

    def counted(self, metric: str, **labels: str) -> float:
        """A counter or gauge as last reported, summed over the labels not given."""
        assert self.last is not None
        series = [*self.last.metrics["counters"], *self.last.metrics["gauges"]]
        return float(sum(value for name, own, value in series if name == metric and labels.items() <= own.items()))

    def publish(self, *published: dict[str, Any]) -> list[str]:
        """Put events into the stream, as a camera's worker does; their ids."""
        with redis.Redis.from_url(self.url) as client, client.pipeline(transaction=True) as pipe:
            for each in published:
                fields: dict[Any, Any] = {"camera": each["hub"]["camera"], "event": events.encode(each)}
                pipe.xadd(f"{PREFIX}:results", fields, maxlen=self.max_entries, approximate=True)
            pipe.execute()
        return [each["hub"]["id"] for each in published]

    def enable(self, webhook_id: str) -> None:
        """As an operator does."""

        async def enable() -> None:
            client = connect(self.url)
            await deliveries.enable(client, PREFIX, webhook_id)
            await client.aclose()

        asyncio.run(enable())

    def kill(self) -> None:
        """As a power cut."""
        if self.child is not None:
            self.child.kill()
            self._end()

    def stop(self, within_s: float = 10.0) -> float:
        """Ask it to end; how long that took."""
        assert self.child is not None
        began = time.monotonic()
        self.child.ask(Command(verb="drain"))
        assert self.child.ended_within(within_s)
        took_s = time.monotonic() - began
        with contextlib.suppress(EOFError):
            self.last = self.child.receive().status or self.last
        assert self.child.exit_code == 0
        self._end()
        return took_s

    def _end(self) -> None:
        assert self.child is not None
        self.child.ended_within(SOON_S)
        self.child.close()
        self.child = None


@pytest.fixture
def dispatch() -> Iterator[Callable[..., Dispatcher]]:
    """Start a webhooks process: `dispatch(redis_url, webhook("alarms", receiver.url()), pace=...)`."""
    started: list[Dispatcher] = []

    def start(url: str, *webhooks: Webhook, **options: Any) -> Dispatcher:
        it = Dispatcher(url=url, webhooks=webhooks, **options)
        started.append(it)
        it.start()
        return it

    yield start
    for it in started:
        it.kill()
