"""Cases 38, 39, 42 and 46: the dispatcher dies, the hub dies, Redis comes back empty, the stream is too short."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import redis

from tests.support.dispatching import PREFIX, event, webhook
from tests.support.reliability import measured
from workers.webhooks.schedule import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.dispatching import Dispatcher
    from tests.support.receiver import Receiver
    from tests.support.redis_server import DebianRedis

pytestmark = pytest.mark.fault
KILLS = 50
PATIENT = Pace(schedule_s=(0, *(0.2,) * 30))


def test_what_the_dispatcher_had_in_hand_when_it_died_is_delivered_by_the_next(
    debian_redis: Callable[..., DebianRedis], receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver(hang=True)
    hub = dispatch(debian_redis().url, webhook("alarms", it.url()))
    ids = hub.publish(*(event(number) for number in range(100)))
    it.wait_for(16)
    hub.kill()
    it.order(status=204)
    began = time.monotonic()
    hub.start()
    it.wait_until(lambda: set(it.taken()) == set(ids))
    took_s = time.monotonic() - began
    assert {each.id for each in it.deliveries() if each.status == 204} == set(ids)
    hub.wait_for_row(lambda row: row["pending"] == 0)
    measured(
        39,
        "webhook process dies before acknowledging",
        injected="kill -9 with 100 results published and 16 of them on their way to an endpoint that does not answer",
        target="none lost; redelivered",
        measured=f"all 100 delivered {took_s:.1f} s after its return, under the same ids",
    )


@pytest.mark.long
def test_fifty_deaths_in_the_middle_of_deliveries_lose_nothing(
    debian_redis: Callable[..., DebianRedis], receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    chance = random.Random(46)  # noqa: S311 - the same moments in every run
    it = receiver(delay_s=0.01, fail_every=7)
    hub = dispatch(debian_redis().url, webhook("alarms", it.url()), pace=PATIENT)
    ids: list[str] = []
    for _ in range(KILLS):
        before = len(it.deliveries())
        ids += hub.publish(*(event(len(ids) + number) for number in range(40)))
        some = before + chance.randrange(1, 30)
        it.wait_until(lambda some=some: len(it.deliveries()) >= some)  # type: ignore[misc]
        hub.kill()
        hub.start()
    it.wait_until(lambda: set(it.taken()) >= set(ids), 60)
    hub.wait_for_row(lambda row: row["pending"] == 0 and row["retrying"] == 0)
    taken = Counter(it.taken())
    assert set(taken) == set(ids)
    twice = sum(count - 1 for count in taken.values())
    measured(
        46,
        "dispatcher killed mid-delivery",
        injected=f"kill -9, {KILLS} times, while 40 results are being delivered to an endpoint that refuses every 7th",
        target="each delivered at least once, same webhook-id",
        measured=f"{len(ids)} of {len(ids)} delivered; {twice} of them again, under the same id",
    )


@pytest.mark.long
def test_groups_are_there_again_after_redis_came_back_empty(
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
    assert [each.id for each in it.deliveries()[3:]] == ids * 3, "owed from the empty stream's start"
    hub.wait_for(lambda status: status.error is None)
    assert took_s < 5
    measured(
        38,
        "broker returns empty: webhooks",
        injected="Redis killed, its data deleted, restarted; a result published at once",
        target="groups recreated within 5 s",
        measured=f"that result at all 3 webhooks {took_s:.1f} s after the return",
    )


@pytest.mark.long
def test_what_the_stream_loses_before_it_is_delivered_is_counted_to_the_unit(
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
    with redis.Redis.from_url(hub.url) as client, client.pubsub() as heard:
        left = client.xlen(f"{PREFIX}:results")
        heard.subscribe(f"{PREFIX}:events")
        heard.get_message(timeout=10)
        hub.start()
        told = heard.get_message(timeout=30)
    it.wait_for(10 + left)
    hub.wait_for_row(lambda row: row["pending"] == 0)
    assert it.taken()[10:] != []
    assert set(it.taken()) == {*ids[:10], *ids[-left:]}
    missed = int(hub.counted("webhook_missed_total", webhook="alarms"))
    assert missed == 2000 - left
    assert told is not None
    assert b'"kind":"webhook_missed"' in told["data"]
    measured(
        42,
        "stream full with results that a webhook had not had",
        injected="dispatcher killed; 2,000 results into a stream that keeps 200; dispatcher started",
        target="alarm and exact count of what was lost",
        measured=f"error in the log, an event, webhook_missed_total {missed}; the {left} that were left delivered",
    )
