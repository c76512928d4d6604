"""Queue of webhook deliveries in Redis: key names, the stored form, and the commands that change the queue.

    <prefix>:results                   stream of results, with a consumer group `webhook:<id>` per webhook of results
    <prefix>:tracks                    stream of track events, likewise
    <prefix>:webhooks:<id>:due         sorted set: webhook-id by due time, in seconds since the epoch
    <prefix>:webhooks:<id>:waiting     hash: webhook-id -> number of attempts and body
    <prefix>:webhooks:<id>:state       hash: `disabled` (reason, absent while enabled), `row` (JSON for display)
    <prefix>:webhooks:<id>:begun       set: tracks and stays in zones whose end the webhook must receive
    <prefix>:webhooks:dead             stream of dead letters of all webhooks
    <prefix>:webhooks:dead:sizes       sizes of the dead letters, for their limit in bytes (results_trim.lua)

A waiting delivery carries its body, because Redis may trim the streams long before the last attempt. The
functions add commands to a pipeline, and the caller may add more commands to the same transaction. All functions except
`move_to_dead_letters` and `set_aside` are idempotent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import ResponseError

from nvision_hub.broker.client import trim_keys
from nvision_hub.broker.scripts import load_script
from nvision_hub.nvision.received_events import ReceivedResult, ReceivedTrackEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis.asyncio
    from redis.asyncio.client import Pipeline

MAX_WAITING: Final = 10_000  # deliveries of one webhook; above this limit, the hub dead-letters a failed delivery
MAX_WAITING_BYTES: Final = 64 * 2**20  # likewise, for the bodies of these deliveries
MAX_DEAD: Final = 10_000  # dead letters of all webhooks; above this limit, Redis drops the oldest ones
MAX_DEAD_BYTES: Final = 64 * 2**20  # likewise, for their bodies
# The event's id becomes the webhook-id. An id from another program may contain characters that are invalid in a header,
# or a period, which separates the parts of the signed content (Standard Webhooks, "Signature scheme").
PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAX_ATTEMPTS: Final = 1000  # upper bound of a stored number, far above the length of the retry schedule
NOT_A_DELIVERY: Final = "the entry in the queue is not a delivery of the hub"
DUE_IN_ANY_STATE: Final = 0.0  # due immediately, even if the webhook is disabled or its circuit breaker is open


class WebhookKeys:
    def __init__(self, prefix: str, webhook: str) -> None:
        queue = f"{prefix}:webhooks:{webhook}"
        self.prefix = prefix
        self.webhook = webhook
        self.events = f"{prefix}:events"  # channel of hub events
        self.group = f"webhook:{webhook}"
        self.due = f"{queue}:due"
        self.waiting = f"{queue}:waiting"
        self.state = f"{queue}:state"
        self.begun = f"{queue}:begun"
        self.dead = dead_letters_key(prefix)


def dead_letters_key(prefix: str) -> str:
    return f"{prefix}:webhooks:dead"


class StreamEntry(NamedTuple):
    """Entry of a stream: the key of the stream, and the id of the entry."""

    stream: str
    id: bytes


class _StoredDelivery(BaseModel):
    """First line of a stored delivery."""

    model_config = ConfigDict(strict=True, extra="forbid")

    attempts: Annotated[int, Field(ge=0, le=_MAX_ATTEMPTS)]
    once: bool = False
    any_age: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One event in the form that a webhook receives, with the number of attempts so far."""

    id: str  # the webhook-id
    body: bytes
    is_cloud_event: bool = False  # an event of a track; a result otherwise
    at: float | None = field(default=None, compare=False)  # time of the event, in seconds since the epoch, if known
    attempts: int = 0
    once: bool = False  # a test event: no retries
    any_age: bool = False  # exempt from the webhook's `max_age`
    entry: StreamEntry | None = None  # None if the delivery came from the queue
    begins: tuple[str, ...] = ()  # the track, and its stay in a zone, whose end the webhook must receive from now on
    ends: str | None = None  # the track or stay that ends

    def encode(self) -> bytes:
        """Return the stored form: one line of JSON and the unchanged body."""
        head = {"attempts": self.attempts, "once": self.once} | ({"any_age": True} if self.any_age else {})
        return json.dumps(head).encode() + b"\n" + self.body

    @classmethod
    def decode(cls, delivery_id: str, data: bytes) -> Delivery:
        """Parse the stored form. Raises `ValueError` for other data, and for a body that is not an event."""
        head, _, body = data.partition(b"\n")
        if not PLAIN_ID.fullmatch(delivery_id):
            raise ValueError("not a webhook-id")
        stored = _StoredDelivery.model_validate_json(head)
        delivery = cls.of(delivery_id, body)
        return replace(delivery, attempts=stored.attempts, once=stored.once, any_age=stored.any_age)

    @classmethod
    def of(cls, delivery_id: str, body: bytes) -> Delivery:
        """Return a new delivery. Raises `ValueError` for a body that is not an event: the hub signs the body."""
        event: ReceivedTrackEvent | ReceivedResult
        try:
            event = ReceivedTrackEvent.parse(body)
        except ValueError:
            event = ReceivedResult.parse(body)
        return cls(id=delivery_id, body=body, is_cloud_event=isinstance(event, ReceivedTrackEvent), at=event.at)

    def is_expired(self, now: float, max_age_s: float | None) -> bool:
        """Return whether the event is too old to be sent at `now`, in seconds since the epoch.

        Without `max_age_s`, no event is too old. An event without a time, a test, and a delivery that is exempt are
        never too old.
        """
        if max_age_s is None or self.at is None or self.once or self.any_age:
            return False
        return now - self.at > max_age_s


def put(pipe: Pipeline, keys: WebhookKeys, delivery: Delivery, *, due: float, only_new: bool = False) -> None:
    """Store a delivery. `due` is in seconds since the epoch. If `only_new`, keep an existing delivery with the same id.

    However, a delivery that may have any age replaces an existing one, which could be too old. It keeps the time at
    which the existing one is due.

    This function adds two commands to the pipeline. The reply to the first command is 1 if the delivery is new.
    """
    store = pipe.hsetnx if only_new and not delivery.any_age else pipe.hset
    pipe.zadd(keys.due, {delivery.id: due}, nx=only_new)
    store(keys.waiting, delivery.id, delivery.encode())


def remove(pipe: Pipeline, keys: WebhookKeys, *ids: str) -> None:
    pipe.zrem(keys.due, *ids)
    pipe.hdel(keys.waiting, *ids)


def move_to_dead_letters(pipe: Pipeline, keys: WebhookKeys, delivery: Delivery, *, reason: str) -> None:
    fields: dict[Any, Any] = {
        "event": delivery.body,
        "webhook": keys.webhook,
        "reason": reason,
        "attempts": delivery.attempts,
        "id": delivery.id,
    }
    pipe.xadd(keys.dead, fields, maxlen=MAX_DEAD, approximate=True)
    trimmed = trim_keys(keys.dead)
    pipe.eval(load_script("results_trim"), len(trimmed), *trimmed, len(delivery.body), MAX_DEAD_BYTES)


def remove_dead_letters(pipe: Pipeline, keys: WebhookKeys, entries: Iterable[bytes]) -> None:
    """Remove dead letters by the ids of their stream entries."""
    pipe.xdel(keys.dead, *entries)
    # The sizes would still include the removed letters, so the limit in bytes would apply too early. If the sizes are
    # missing, the script results_trim measures the stream again at the next dead letter.
    pipe.delete(trim_keys(keys.dead)[1])


def set_aside(pipe: Pipeline, keys: WebhookKeys, delivery_id: bytes, data: bytes) -> None:
    """Move a queue entry that is not a delivery to the dead letters, where operators can inspect it."""
    pipe.zrem(keys.due, delivery_id)
    pipe.hdel(keys.waiting, delivery_id)
    shown = delivery_id.decode("ascii", errors="backslashreplace")
    move_to_dead_letters(pipe, keys, Delivery(id=shown, body=data), reason=NOT_A_DELIVERY)


async def waiting_bytes(client: redis.asyncio.Redis, keys: WebhookKeys) -> int:
    """Return the memory of the webhook's queue in Redis, in bytes; 0 if Redis does not report it."""
    try:
        return int(await client.memory_usage(keys.waiting, samples=0) or 0)
    except ResponseError:  # an ACL forbids MEMORY
        return 0
