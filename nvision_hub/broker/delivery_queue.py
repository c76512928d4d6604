"""Deliveries that wait in Redis: the names of a webhook's keys, and what stands in them.

    <prefix>:results                   the stream of results, with a consumer group `webhook:<id>` for each webhook
    <prefix>:webhooks:<id>:due         sorted set: webhook-id by when it is to be tried, seconds since the epoch
    <prefix>:webhooks:<id>:waiting     hash: webhook-id -> what is to be posted, and what became of it so far
    <prefix>:webhooks:<id>:state       hash: `disabled` (a sentence, absent while enabled), `row` (JSON, for people)
    <prefix>:webhooks:dead             stream: deliveries given up on, of all webhooks

What waits carries its body: the stream of results may be trimmed long before the last try. The functions here add
commands to a pipeline; whoever calls them decides what else belongs into the same transaction. All may be repeated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline

WAITING_MAX: Final = 10_000  # deliveries of one webhook; beyond it, what fails goes to the dead letters at once
DEAD_MAX: Final = 10_000  # deliveries given up on, of all webhooks; beyond it the oldest go
WHATEVER_THE_STATE: Final = 0.0  # as the time when it is to be tried: also while the webhook is disabled or resting


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """The names of one webhook's keys."""

    prefix: str
    webhook: str

    @property
    def results(self) -> str:
        """The stream that it reads."""
        return f"{self.prefix}:results"

    @property
    def group(self) -> str:
        """Its consumer group there."""
        return f"webhook:{self.webhook}"

    @property
    def due(self) -> str:
        """When each delivery that waits is to be tried."""
        return f"{self.prefix}:webhooks:{self.webhook}:due"

    @property
    def waiting(self) -> str:
        """What each of them is."""
        return f"{self.prefix}:webhooks:{self.webhook}:waiting"

    @property
    def state(self) -> str:
        """Whether it is disabled, and its row for people."""
        return f"{self.prefix}:webhooks:{self.webhook}:state"

    @property
    def dead(self) -> str:
        """The dead letters of all webhooks."""
        return dead_letters_key(self.prefix)


def dead_letters_key(prefix: str) -> str:
    """The stream of deliveries given up on."""
    return f"{prefix}:webhooks:dead"


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """One delivery: what is posted, and what became of it so far."""

    id: str  # the webhook-id
    body: bytes
    attempts: int = 0  # so far
    once: bool = False  # a test: not tried again

    def encode(self) -> bytes:
        """A line of JSON, then the body as it is."""
        return json.dumps({"attempts": self.attempts, "once": self.once}).encode() + b"\n" + self.body

    @classmethod
    def decode(cls, delivery_id: str, data: bytes) -> Waiting:
        """Raises `ValueError` for anything else."""
        head, _, body = data.partition(b"\n")
        try:
            return cls(id=delivery_id, body=body, **json.loads(head))
        except TypeError as error:
            raise ValueError("no delivery that waits") from error


def put(pipe: Pipeline, keys: Keys, waiting: Waiting, *, due: float) -> None:
    """Keep a delivery until `due`, in seconds since the epoch."""
    pipe.zadd(keys.due, {waiting.id: due})
    pipe.hset(keys.waiting, waiting.id, waiting.encode())


def put_new(pipe: Pipeline, keys: Keys, waiting: Waiting, *, due: float) -> None:
    """As `put`, where no delivery of that id waits yet; the first of its two answers says whether."""
    pipe.zadd(keys.due, {waiting.id: due}, nx=True)
    pipe.hsetnx(keys.waiting, waiting.id, waiting.encode())


def remove(pipe: Pipeline, keys: Keys, *ids: str) -> None:
    """These wait no more."""
    pipe.zrem(keys.due, *ids)
    pipe.hdel(keys.waiting, *ids)


def bury(pipe: Pipeline, keys: Keys, waiting: Waiting, *, reason: str) -> None:
    """Add a delivery to the dead letters."""
    fields: dict[Any, Any] = {
        "event": waiting.body,
        "webhook": keys.webhook,
        "reason": reason,
        "attempts": waiting.attempts,
        "id": waiting.id,
    }
    pipe.xadd(keys.dead, fields, maxlen=DEAD_MAX, approximate=True)
