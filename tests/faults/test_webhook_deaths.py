"""Cases 38, 39, 42 and 46: killed dispatchers and hubs, a Redis that restarts empty, and a stream that is too short."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import redis

from tests.support.dispatching import PREFIX, event, webhook
from tests.support.patience import PATIENCE_S, is_on_time
from tests.support.reliability import measured
from workers.webhooks.settings import DeliveryLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.dispatching import Dispatcher
    from tests.support.receiver import Receiver
    from tests.support.redis_server import DebianRedis

pytestmark = pytest.mark.fault
KILLS = 50
PATIENT = DeliveryLimits(schedule_s=(0, *(0.2,) * 30))


def test_the_next_dispatcher_delivers_unacknowledged_results_of_a_killed_one(
    debian_redis: Callable[..., DebianRedis], receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver(hang=True)
    hub = dispatch(debian_redis().url, webhook("alarms", it.url()))
    ids = hub.publish(*(event(number) for number in range(100)))
    it.wait_for(16)
    hub.kill()
    it.set_behavior(status=204)
    began = time.monotonic()
    hub.start()
    it.wait_until(lambda: set(it.accepted()) == set(ids))
    took_s = time.monotonic() - began
    assert {each.id for each in it.deliveries() if each.status == 204} == set(ids)
    hub.wait_for_row(lambda row: row["pending"] == 0)
    measured(
        39,
        "dispatcher killed before it acknowledges",
        injected="kill -9 with 100 results published and 16 of them in delivery to an endpoint that does not answer",
        target="none lost; redelivered",
        measured=f"all 100 delivered {took_s:.1f} s after the restart, with the same ids",
    )


@pytest.mark.long
def test_fifty_kills_during_deliveries_lose_nothing(
    debian_redis: Callable[..., DebianRedis], receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    chance = random.Random(46)  # noqa: S311 - the same moments in every run
    it = receiver(delay_s=0.01, fail_every=7)
    hub = dispatch(debian_redis().url, webhook("alarms", it.url()), limits=PATIENT)
    ids: list[str] = []
    for _ in range(KILLS):
        before = len(it.deliveries())
        ids += hub.publish(*(event(len(ids) + number) for number in range(40)))
        some = before + chance.randrange(1, 30)
        it.wait_until(lambda some=some: len(it.deliveries()) >= some)  # type: ignore[misc]
        hub.kill()
        hub.start()
    it.wait_until(lambda: set(it.accepted()) >= set(ids))
    hub.wait_for_row(lambda row: row["pending"] == 0 and row["retrying"] == 0)
    taken = Counter(it.accepted())
    assert set(taken) == set(ids)
    twice = sum(count - 1 for count in taken.values())
    measured(
        46,
        "dispatcher killed during delivery",
        injected=f"kill -9, {KILLS} times, during the delivery of 40 results to an endpoint that rejects every 7th",
        target="each delivered at least once with the same webhook-id",
        measured=f"{len(ids)} of {len(ids)} delivered; {twice} of them delivered again with the same id",
    )


@pytest.mark.long
def test_groups_are_recreated_after_redis_returns_empty(
    debian_redis: Callable[..., DebianRedis], receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    server = debian_redis()
    hub = dispatch(server.url, *(webhook(f"hook{number}", it.url(f"/{number}")) for number in range(3)))
    hub.publish(event(0))
    it.wait_for(3)
    server.kill()
    for file in server.folder.rglob("*.aof*"):
        file.unlink()
    hub.wait_for(lambda status: status.error is not None)
    server.start()
    back = time.monotonic()
    ids = hub.publish(event(1))
    it.wait_for(6)
    took_s = time.monotonic() - back
    assert [each.id for each in it.deliveries()[3:]] == ids * 3, "the group begins at the start of the empty stream"
    hub.wait_for(lambda status: status.error is None)
    assert is_on_time(took_s, 5)
    measured(
        38,
        "broker returns empty: webhooks",
        injected="Redis killed, its data deleted, restarted; a result published immediately after the restart",
        target="groups recreated within 5 s",
        measured=f"that result reached all 3 webhooks {took_s:.1f} s after the restart",
    )


@pytest.mark.long
def test_results_trimmed_before_delivery_are_counted_exactly(
    debian_redis: Callable[..., DebianRedis], receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(debian_redis().url, webhook("alarms", it.url()), max_entries=200)
    ids = hub.publish(*(event(number) for number in range(10)))
    it.wait_for(10)
    hub.wait_for_row(lambda row: row["pending"] == 0)
    hub.kill()
    for start in range(10, 2010, 100):
        ids += hub.publish(*(event(start + number) for number in range(100)))
    with redis.Redis.from_url(hub.url) as client, client.pubsub() as subscription:
        left = client.xlen(f"{PREFIX}:results")
        subscription.subscribe(f"{PREFIX}:events")
        subscription.get_message(timeout=PATIENCE_S)
        hub.start()
        received = subscription.get_message(timeout=PATIENCE_S)
    it.wait_for(10 + left)
    hub.wait_for_row(lambda row: row["pending"] == 0)
    assert it.accepted()[10:] != []
    assert set(it.accepted()) == {*ids[:10], *ids[-left:]}
    missed = int(hub.counted("webhook_missed_total", webhook="alarms"))
    assert missed == 2000 - left
    assert received is not None
    assert b'"kind":"webhook_missed"' in received["data"]
    measured(
        42,
        "stream trimmed before a webhook read it",
        injected="dispatcher killed; 2,000 results into a stream that keeps 200; dispatcher restarted",
        target="alarm and exact count of the lost results",
        measured=f"error in the log, an event, webhook_missed_total {missed}; the remaining {left} delivered",
    )
