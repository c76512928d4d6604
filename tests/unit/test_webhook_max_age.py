"""A webhook's `max_age`: which events are too old, and what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.broker import webhook_admin, webhook_queue
from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.broker.webhook_queue import Delivery, StreamEntry
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision import result_events
from nvision_hub.nvision.received_events import ReceivedResult, ReceivedTrackEvent
from nvision_hub.timestamps import iso_utc, parse_iso
from nvision_hub.tracking.changes import ChangeType
from tests.support import track_events
from tests.support.dispatching import PREFIX, event, webhook
from tests.support.patience import PATIENCE_S
from tests.unit.test_webhook_consumer import KEYS, OTHER_TRACK, Reader, client, ids_of, publish
from workers.webhooks.breaker import EndpointState
from workers.webhooks.outcome_writer import AckWriter
from workers.webhooks.sender import DeliverySender
from workers.webhooks.settings import DeliveryLimits
from workers.webhooks.stats import WebhookStats
from workers.webhooks.webhook_client import Attempt, Outcome

if TYPE_CHECKING:
    from datetime import datetime

    import redis.asyncio

    from workers.webhooks.outcome_writer import Ack

__all__ = ["client"]  # a fixture

MAX_AGE_S = 3600.0
RETRY_AFTER_S = 7200.0
LIFE = ["track.started", "track.ended"]
OLD = Delivery(id="old", body=result_events.encode(event()), at=track_events.NOW)


def fresh(change_type: ChangeType, **changes: Any) -> dict[str, Any]:
    """Return an event of a track of this moment. All other events of tracks in these tests are from 2023."""
    return track_events.event(change_type, **changes) | {"time": iso_utc(time.time())}


@given(at=st.floats(-1e9, 4e9), age=st.floats(0, 1e7), max_age=st.floats(0.001, 1e7))
def test_an_event_is_too_old_if_its_age_exceeds_the_limit(at: float, age: float, max_age: float) -> None:
    delivery = Delivery(id="x", body=b"", at=at)
    assert delivery.is_expired(at + age, max_age) is ((at + age) - at > max_age)
    assert not delivery.is_expired(at + age, None)
    for exempt in (Delivery(id="x", body=b"", at=at, once=True), Delivery(id="x", body=b"", at=at, any_age=True)):
        assert not exempt.is_expired(at + age, max_age)


def test_an_event_of_the_future_or_without_a_time_is_sent() -> None:
    assert not Delivery(id="x", body=b"", at=2e9).is_expired(1e9, 1.0)
    assert not Delivery(id="x", body=b"").is_expired(1e9, 1.0)


@given(st.datetimes(timezones=st.timezones()))
def test_times_are_read_with_their_offset(time: datetime) -> None:
    assert parse_iso(time.isoformat()) == pytest.approx(time.timestamp())


@pytest.mark.parametrize("text", [None, "", "now", "2026-11-22", "2026-11-22T14:00:00", "9999-99", "9" * 5000, "\x00"])
def test_other_strings_are_no_times(text: str | None) -> None:
    assert parse_iso(text) is None


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"captured_at": iso_utc(1e9), "sent_at": iso_utc(2e9)}, 1e9),
        ({"captured_at": None, "sent_at": iso_utc(2e9), "received_at": iso_utc(3e9)}, 2e9),
        ({"captured_at": "yesterday", "received_at": iso_utc(3e9)}, 3e9),
        ({}, None),
    ],
)
def test_a_result_is_as_old_as_its_frame(times: dict[str, Any], expected: float | None) -> None:
    result = event()
    result["hub"] |= times
    body = result_events.encode(result)
    assert ReceivedResult.parse(body).at == expected
    applied = WebhookFilter().apply("results", "lobby", body)
    assert applied is not None
    assert applied.at == Delivery.of("x", body).at == expected


def test_an_event_of_a_track_has_its_own_time() -> None:
    body = result_events.encode(track_events.event())
    assert ReceivedTrackEvent.parse(body).at == Delivery.of("x", body).at == track_events.NOW + 1
    broken = result_events.encode(track_events.event() | {"time": "9999-99"})
    assert Delivery.of("x", broken).at is None


def test_the_queue_keeps_the_time_and_the_exemption() -> None:
    body = result_events.encode(track_events.event())
    exempt = Delivery(id="x", body=body, is_cloud_event=True, attempts=2, any_age=True)
    assert Delivery.decode("x", exempt.encode()).any_age
    earlier_version = json.dumps({"attempts": 2, "once": False}).encode() + b"\n" + body
    found = Delivery.decode("x", earlier_version)
    assert (found.attempts, found.any_age, found.at) == (2, False, track_events.NOW + 1)
    assert found.encode() == earlier_version, "an earlier version can read it, too"


class Endpoint:
    """An endpoint that gives each delivery the same outcome."""

    def __init__(self, outcome: Outcome = Outcome.DELIVERED) -> None:
        self.posted: list[str] = []
        self._outcome = outcome

    async def post(self, delivery_id: str, _body: bytes, **_: Any) -> Attempt:
        self.posted.append(delivery_id)
        return Attempt(outcome=self._outcome, took_s=0.1, retry_after_s=RETRY_AFTER_S)


class Outcomes(AckWriter):
    """Outcomes that are not written. `complete` is set once there are `expected` of them."""

    def __init__(self, expected: int) -> None:
        super().__init__(None, KEYS, site="test")  # type: ignore[arg-type]
        self._expected = expected
        self.complete = asyncio.Event()

    def _add(self, ack: Ack) -> None:
        super()._add(ack)
        if len(self.unwritten) == self._expected:
            self.complete.set()


async def send(endpoint: Endpoint, *deliveries: Delivery, max_age: float | None = MAX_AGE_S) -> tuple[Meter, AckWriter]:
    """Send deliveries until each one has its outcome."""
    meter, acks = Meter(), Outcomes(len(deliveries))
    stats = WebhookStats(webhook("alarms", "http://127.0.0.1:9/", max_age=max_age), meter)
    sender = DeliverySender(endpoint, acks=acks, stats=stats, limits=DeliveryLimits())  # type: ignore[arg-type]
    for each in deliveries:
        sender.deliveries.put_nowait(each)
    task = asyncio.create_task(sender.run())
    async with asyncio.timeout(PATIENCE_S):
        await acks.complete.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return meter, acks


def skipped(meter: Meter) -> float:
    return meter.value(catalogue.WEBHOOK_SKIPPED_TOTAL, webhook="alarms", reason="max_age")


def entry_of(delivery: Delivery) -> Delivery:
    return Delivery(id=delivery.id, body=delivery.body, at=delivery.at, entry=StreamEntry("s", b"1-0"))


async def test_an_old_event_is_neither_sent_nor_in_the_way() -> None:
    endpoint = Endpoint()
    new = Delivery(id="new", body=OLD.body, at=time.time() + 60)
    exempt = Delivery(id="exempt", body=OLD.body, at=OLD.at, any_age=True)
    meter, acks = await send(endpoint, OLD, entry_of(OLD), exempt, new)
    assert endpoint.posted == ["exempt", "new"]
    assert skipped(meter) == 2
    assert meter.value(catalogue.WEBHOOK_DELIVERIES_TOTAL, webhook="alarms", outcome="delivered") == 2
    assert [ack.queued_id for ack in acks.unwritten] == ["old", None, "exempt", "new"]
    assert acks.unwritten[1].entry == StreamEntry("s", b"1-0")
    assert all(ack.due is None and ack.write is None for ack in acks.unwritten), "no dead letter, no retry"


async def test_old_events_leave_room_for_a_probe_after_an_outage(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, LIFE, max_age=MAX_AGE_S)
    await reader.consumer.open()
    await publish(client, *[track_events.event(ChangeType.STARTED) for _ in range(3)])
    assert await reader.read() == [], "the outcomes of the old events are not written yet"
    assert reader.consumer.capacity(EndpointState.HALF_OPEN, 10).new == 7


async def test_without_a_limit_every_event_is_sent() -> None:
    endpoint = Endpoint()
    await send(endpoint, OLD, max_age=None)
    assert endpoint.posted == ["old"]


@pytest.mark.parametrize(("max_age", "is_retried"), [(MAX_AGE_S, False), (10 * MAX_AGE_S, True)])
async def test_a_retry_that_would_be_too_late_does_not_wait(max_age: float, *, is_retried: bool) -> None:
    endpoint = Endpoint(Outcome.HTTP_ERROR)
    new = Delivery(id="new", body=OLD.body, at=time.time() + 60)
    meter, acks = await send(endpoint, new, max_age=max_age)
    assert endpoint.posted == ["new"]
    (ack,) = acks.unwritten
    assert (ack.queued_id, ack.due is not None, skipped(meter)) == ("new", is_retried, 0 if is_retried else 1)


async def finish(reader: Reader, deliveries: list[Delivery]) -> None:
    for each in deliveries:
        reader.acks.finish(each)
    await reader.write()


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_an_old_end_arrives_exactly_if_the_webhook_knows_of_the_track(
    client: redis.asyncio.Redis, *, is_restarted: bool
) -> None:
    reader = Reader(client, LIFE, max_age=MAX_AGE_S)
    await reader.consumer.open()
    (started,) = await publish(client, fresh(ChangeType.STARTED))
    await publish(client, track_events.event(ChangeType.STARTED, id=OTHER_TRACK))
    found = await reader.read()
    assert ids_of(found) == [started]
    await finish(reader, found)
    counted = skipped(reader.meter)
    if is_restarted:
        reader = Reader(client, LIFE, max_age=MAX_AGE_S)
        await reader.consumer.open()
        counted = 0
    (ended,) = await publish(client, track_events.event(ChangeType.ENDED))
    await publish(client, track_events.event(ChangeType.ENDED, id=OTHER_TRACK))
    (end,) = await reader.read()
    assert (end.id, end.any_age) == (ended, True)
    assert skipped(reader.meter) == counted + 1
    await finish(reader, [end])
    assert await client.exists(KEYS.begun) == 0
    assert (await client.xpending(f"{PREFIX}:tracks", KEYS.group))["pending"] == 0, "each entry has its outcome"


async def test_an_end_arrives_if_the_beginning_may_have_been_sent_before_a_crash(client: redis.asyncio.Redis) -> None:
    first = Reader(client, LIFE)
    await first.consumer.open()
    await publish(client, track_events.event(ChangeType.STARTED))
    assert len(await first.read()) == 1
    second = Reader(client, LIFE, max_age=MAX_AGE_S)
    await second.consumer.open()
    assert second.accepted() == []
    expected = await publish(client, track_events.event(ChangeType.ENDED))
    assert ids_of(await second.read()) == expected


async def test_a_webhook_of_ends_alone_receives_no_old_ends(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, ["track.ended"], max_age=MAX_AGE_S)
    await reader.consumer.open()
    expected = await publish(client, fresh(ChangeType.ENDED))
    await publish(client, track_events.event(ChangeType.ENDED, id=OTHER_TRACK))
    assert ids_of(await reader.read()) == expected


async def test_the_end_of_a_track_that_began_during_the_first_start_arrives(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, LIFE, max_age=MAX_AGE_S)
    await publish(client, fresh(ChangeType.STARTED))
    await reader.consumer.open()
    await reader.write()
    successor = Reader(client, LIFE, max_age=MAX_AGE_S)
    await successor.consumer.open()
    expected = await publish(client, track_events.event(ChangeType.ENDED))
    assert ids_of(await successor.read()) == expected


async def test_an_old_end_is_dropped_if_the_first_start_finds_only_old_events(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, LIFE, max_age=MAX_AGE_S)
    expected = await publish(client, *(track_events.event(kind) for kind in (ChangeType.STARTED, ChangeType.ENDED)))
    await reader.consumer.open()
    await reader.write()
    await reader.consumer.read_due(10)
    found = reader.accepted()
    assert sorted(ids_of(found)) == sorted(expected)
    assert not any(each.any_age for each in found), "the sender drops them"
    assert await client.exists(KEYS.begun) == 0


async def test_a_replay_exempts_events_that_already_wait(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, LIFE, max_age=MAX_AGE_S)
    expected = await publish(client, track_events.event(ChangeType.STARTED))
    await reader.consumer.open()
    wanted = WebhookFilter.of({"events": LIFE})
    done = await webhook_admin.replay(client, PREFIX, "alarms", wanted=wanted, since=reader.consumer._since)
    assert done.queued == 0, "the event was queued by the first start"
    await reader.consumer.read_due(10)
    found = reader.accepted()
    assert ids_of(found) == expected
    assert all(each.any_age for each in found)


async def test_a_replay_sends_events_of_any_age(client: redis.asyncio.Redis) -> None:
    reader = Reader(client, LIFE, max_age=MAX_AGE_S)
    await reader.consumer.open()
    expected = await publish(client, track_events.event(ChangeType.STARTED))
    assert await reader.read() == []
    wanted = WebhookFilter.of({"events": LIFE})
    done = await webhook_admin.replay(client, PREFIX, "alarms", wanted=wanted, since=reader.consumer._since)
    assert done.queued == 1
    async with client.pipeline(transaction=True) as pipe:
        webhook_queue.move_to_dead_letters(pipe, KEYS, Delivery(id="dead", body=OLD.body), reason="test")
        await pipe.execute()
    await webhook_admin.replay_dead(client, PREFIX, "alarms")
    await reader.consumer.read_due(10)
    found = reader.accepted()
    assert ids_of(found) == [*expected, "dead"]
    assert all(each.any_age for each in found)
