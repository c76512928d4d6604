"""A real dispatcher as a child process of the test. The test adds events to a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from nvision_hub.broker import webhook_admin
from nvision_hub.broker.client import RedisSettings, connect, track_commands
from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.config.models import Webhook
from nvision_hub.nvision import result_events
from nvision_hub.runtime.messages import Drain
from nvision_hub.runtime.process import ChildProcess, ProcessSpec
from nvision_hub.runtime.status import Status, WebhooksInfo
from tests.support.metrics import series_sum
from tests.support.patience import PATIENCE_S
from tests.support.receiver import SECRET
from tests.support.statuses import info_as
from workers import webhooks
from workers.webhooks.settings import DeliveryLimits, WebhooksSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


PREFIX: Final = "site"


def webhook(webhook_id: str, url: str, **more: Any) -> Webhook:
    """Return a webhook that may connect to loopback. The keywords are settings as in cameras.yaml."""
    return Webhook.model_validate({"id": webhook_id, "url": url, "secret": SECRET, "allow_private": True, **more})


def event(number: int = 0, *found: tuple[str, float], camera: str = "lobby", faces: bool = False) -> dict[str, Any]:
    """Return a result event. Each detection has one of these names and confidences."""
    box = {"left": 10, "top": 20, "right": 110, "bottom": 220}
    detections = [{"name": n, "parent": "", "confidence": c, "bounding_box": box} for n, c in found]
    own_id = result_events.new_id()
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
    """One dispatcher and the Redis that the dispatcher reads."""

    url: str
    webhooks: Sequence[Webhook]
    limits: DeliveryLimits = field(default_factory=DeliveryLimits)
    max_entries: int = 100_000
    child: ChildProcess | None = None
    last: Status | None = None

    def start(self, since: datetime | None = None) -> None:
        """Start the process and return once its consumer groups exist.

        `since` is the time at which the webhooks were configured; None means the present.
        """
        settings = WebhooksSettings(
            webhooks=tuple(self.webhooks),
            stream=RedisSettings(url=self.url, prefix=PREFIX, max_entries=self.max_entries),
            site="test",
            limits=self.limits,
            since=since or datetime.now(UTC),
        )
        self.last = None
        self.child = ChildProcess(ProcessSpec(name="webhooks", stage=0, entry=webhooks.run, settings=settings))
        self.wait_for(lambda status: status.ready)

    def wait_for(self, condition: Callable[[Status], bool], timeout_s: float = PATIENCE_S) -> Status:
        """Wait for a report that meets the condition."""
        assert self.child is not None
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.child.receive().status
            if status is not None:
                self.last = status
                if condition(status):
                    return status
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {self.last}"
            self.child.ended_within(0.01)

    def row(self, webhook_id: str | None = None) -> dict[str, Any]:
        """Return the last reported row of a webhook. Without an id, return the first webhook's row."""
        assert self.last is not None
        rows = [asdict(webhook) for webhook in info_as(self.last, WebhooksInfo).webhooks]
        return next(row for row in rows if webhook_id in {None, row["id"]})

    def wait_for_row(
        self,
        condition: Callable[[dict[str, Any]], bool],
        webhook_id: str | None = None,
        *,
        timeout_s: float = PATIENCE_S,
    ) -> dict[str, Any]:
        """Wait for a report in which a webhook's row meets the condition."""

        def met(status: Status) -> bool:
            self.last = status
            return condition(self.row(webhook_id))

        self.wait_for(met, timeout_s)
        return self.row(webhook_id)

    def counted(self, metric: str, **labels: str) -> float:
        """Return a counter or gauge in the last report, summed over all series with at least these labels."""
        assert self.last is not None
        metrics = self.last.metrics
        return series_sum(metrics.counters, metric, labels) + series_sum(metrics.gauges, metric, labels)

    def publish(self, *published: dict[str, Any]) -> list[str]:
        """Add events to the stream like a camera worker. Return their ids."""
        with redis.Redis.from_url(self.url) as client, client.pipeline(transaction=True) as pipe:
            for each in published:
                fields: dict[Any, Any] = {"camera": each["hub"]["camera"], "event": result_events.encode(each)}
                pipe.xadd(f"{PREFIX}:results", fields, maxlen=self.max_entries, approximate=True)
            pipe.execute()
        return [each["hub"]["id"] for each in published]

    def publish_track_events(self, *published: dict[str, Any]) -> list[str]:
        """Publish events of tracks like a camera worker. Return their ids."""
        outgoing = [
            OutgoingEvent(
                id=each["id"],
                camera=each["data"]["track"]["camera"],
                payload=result_events.encode(each),
                received_at=time.time(),
            )
            for each in published
        ]
        with redis.Redis.from_url(self.url) as client, client.pipeline(transaction=True) as pipe:
            for command in track_commands(outgoing, prefix=PREFIX, max_entries=self.max_entries):
                pipe.execute_command(*command)
            pipe.execute()
        return [each["id"] for each in published]

    def enable(self, webhook_id: str) -> None:
        """Enable a webhook like an operator does."""

        async def enable() -> None:
            client = connect(self.url)
            await webhook_admin.enable(client, PREFIX, webhook_id)
            await client.aclose()

        asyncio.run(enable())

    def kill(self) -> None:
        """Kill the process abruptly, like a power failure."""
        if self.child is not None:
            self.child.kill()
            self._end()

    def stop(self, timeout_s: float = PATIENCE_S) -> float:
        """Stop the process. Return the seconds that the stop took."""
        assert self.child is not None
        began = time.monotonic()
        self.child.send(Drain())
        assert self.child.ended_within(timeout_s)
        took_s = time.monotonic() - began
        with contextlib.suppress(EOFError):
            self.last = self.child.receive().status or self.last
        assert self.child.exit_code == 0
        self._end()
        return took_s

    def _end(self) -> None:
        assert self.child is not None
        self.child.ended_within(PATIENCE_S)
        self.child.close()
        self.child = None


@pytest.fixture
def dispatch() -> Iterator[Callable[..., Dispatcher]]:
    """Start a dispatcher: `dispatch(redis_url, webhook("alarms", receiver.url()), limits=...)`."""
    started: list[Dispatcher] = []

    def start(url: str, *webhooks: Webhook, **options: Any) -> Dispatcher:
        it = Dispatcher(url=url, webhooks=webhooks, **options)
        started.append(it)
        it.start()
        return it

    yield start
    for it in started:
        it.kill()
