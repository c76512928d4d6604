"""Webhooks from the stream to a receiver: real Redis, a real dispatcher process, real HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis
from standardwebhooks import Webhook as Verifier

from nvision_hub.broker import deliveries
from nvision_hub.broker.publisher import connect
from nvision_hub.broker.webhook_filter import WebhookFilter
from tests.support import asyncapi, needs
from tests.support.dispatching import PREFIX, event, webhook
from tests.support.receiver import OTHER_SECRET, SECRET
from workers.webhooks.schedule import Pace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.dispatching import Dispatcher
    from tests.support.receiver import Receiver
    from tests.support.redis_server import DebianRedis, Server

pytestmark = pytest.mark.long


FAST = Pace(schedule_s=(0, 0.05, 0.1), timeout_s=1.0)


def asked(url: str, what: Callable[[Any], Awaitable[Any]]) -> Any:
    """What a function of `deliveries` returns, called as the command line does."""

    async def ask() -> Any:
        client = connect(url)
        try:
            return await what(client)
        finally:
            await client.aclose()

    return asyncio.run(ask())


def raw(url: str) -> redis.Redis:
    return redis.Redis.from_url(url)


def test_what_matches_arrives_signed_and_what_does_not_is_done_with(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(
        redis_server.url,
        webhook("all", it.url("/all")),
        webhook("people", it.url("/people?key=a%20b"), classes=["person"], min_confidence=0.5, cameras=["lobby"]),
    )
    events = [
        event(1, ("person", 0.9), ("car", 0.9)),
        event(2, ("car", 0.9)),
        event(3),
        event(4, ("person", 0.2)),
        event(5, ("person", 0.9), camera="gate"),
    ]
    ids = hub.publish(*events)
    it.wait_for(5, "/all")
    (only,) = it.wait_for(1, "/people?key=a%20b")
    assert sorted(it.taken("/all")) == sorted(ids)
    assert only.id == ids[0]
    assert [each["name"] for each in only.event["detected_objects"]] == ["person"]
    for each in it.deliveries():
        assert each.headers["content-type"] == "application/json"
        assert each.headers["user-agent"].startswith("nvision-hub/")
        assert each.headers["host"] == f"127.0.0.1:{it.port}"
        assert Verifier(SECRET).verify(each.body, each.headers) == each.event
    full = next(each for each in it.deliveries("/all") if each.id == ids[0])
    assert full.event == events[0]
    row = hub.wait_for_row(lambda row: row["pending"] == 0, "people")
    assert (row["delivered"], row["failed"], row["dead"], row["retrying"], row["state"]) == (1, 0, 0, 0, "active")
    assert row["url"] == f"http://127.0.0.1:{it.port}/***?***" or "***" in row["url"]
    assert row["last_delivery_at"].endswith("Z")
    assert 0 < row["p50_s"] <= row["p99_s"]
    assert hub.counted("webhook_deliveries_total", webhook="people", outcome="delivered") == 1
    assert it.connections() <= 32, "connections are kept"


def test_both_secrets_sign_while_one_takes_the_other_s_place(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(redis_server.url, webhook("alarms", it.url(), secret=[OTHER_SECRET, SECRET]))
    hub.publish(event(1))
    (delivery,) = it.wait_for(1)
    assert len(delivery.headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER_SECRET):
        Verifier(secret).verify(delivery.body, delivery.headers)


def test_a_new_webhook_begins_with_what_comes_and_a_known_one_where_it_stopped(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(redis_server.url, webhook("first", it.url("/first")))
    early = hub.publish(*(event(number) for number in range(10)))
    it.wait_for(10, "/first")
    assert hub.stop() < 5
    late = hub.publish(*(event(number) for number in range(10, 20)))
    hub.webhooks = [*hub.webhooks, webhook("second", it.url("/second"))]
    hub.start()
    last = hub.publish(event(20))
    it.wait_for(1, "/second")
    it.wait_for(21, "/first")
    assert set(it.taken("/first")) == {*early, *late, *last}
    assert not set(it.taken("/second")) & set(early)
    row = hub.wait_for_row(lambda row: row["delivered"] >= 21, "first")
    assert row["delivered"] == 21, "the count outlives the process"


def test_what_comes_while_a_new_dispatcher_starts_is_delivered(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(redis_server.url, webhook("first", it.url("/first")))
    before = hub.publish(event(0, ("person", 0.9)))
    it.wait_for(1)
    hub.kill()
    hub.webhooks = [webhook("second", it.url("/second"), classes=["person"])]
    asked_at = datetime.now(UTC)
    ids = hub.publish(event(1, ("person", 0.9)), event(2, ("car", 0.9)))
    hub.start(since=asked_at)
    ids += hub.publish(event(3, ("person", 0.9)))
    it.wait_for(2, "/second")
    hub.wait_for_row(lambda row: row["pending"] == 0 and row["retrying"] == 0)
    assert sorted(it.taken("/second")) == sorted([ids[0], ids[2]])
    assert before[0] not in it.taken("/second")


def test_a_stop_lets_what_is_on_its_way_arrive_and_repeats_nothing_of_it(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver(delay_s=0.3)
    hub = dispatch(redis_server.url, webhook("alarms", it.url()))
    ids = hub.publish(*(event(number) for number in range(12)))
    it.wait_for(12)
    assert hub.stop() < 5
    hub.start()
    hub.wait_for_row(lambda row: row["pending"] == 0)
    assert sorted(it.taken()) == sorted(ids)


def test_what_failed_waits_in_redis_with_its_body_and_becomes_a_dead_letter(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver(status=500)
    hub = dispatch(redis_server.url, webhook("alarms", it.url(), classes=["person"]), pace=FAST)
    (own_id,) = hub.publish(event(1, ("person", 0.9), ("car", 0.9)))
    it.wait_for(1)
    with raw(redis_server.url) as client:
        client.xtrim(f"{PREFIX}:results", maxlen=0, approximate=False)
    row = hub.wait_for_row(lambda row: row["dead"] == 1 and row["retrying"] == 0)
    assert (row["failed"], row["last_error"]) == (3, "answered 500")
    assert [each.id for each in it.deliveries()] == [own_id] * 3
    (letter,) = asked(redis_server.url, lambda client: deliveries.dead_letters(client, PREFIX))
    assert (letter["webhook"], letter["id"], letter["attempts"]) == ("alarms", own_id, 3)
    assert letter["reason"].endswith("answered 500")
    assert [each["name"] for each in letter["event"]["detected_objects"]] == ["person"]
    assert asked(redis_server.url, lambda client: deliveries.dead_letters(client, PREFIX, "other")) == []
    it.order(status=204)
    done = asked(redis_server.url, lambda client: deliveries.replay_dead(client, PREFIX, "alarms"))
    assert (done.queued, done.rest_from) == (1, None)
    it.wait_until(lambda: it.taken() == [own_id])
    assert asked(redis_server.url, lambda client: deliveries.dead_letters(client, PREFIX)) == []
    hub.wait_for_row(lambda row: row["retrying"] == 0 and row["last_error"] is None)


def test_a_replay_repeats_what_the_filters_choose_with_the_same_ids(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(redis_server.url, webhook("alarms", it.url(), classes=["person"]))
    ids = hub.publish(*(event(number, ("person" if number % 2 else "car", 0.9)) for number in range(500)))
    wanted = ids[1::2]
    it.wait_for(250)
    kept = WebhookFilter.of({"classes": ["person"]})

    def replay(since: datetime) -> Any:
        return asked(
            redis_server.url,
            lambda client: deliveries.replay(client, PREFIX, "alarms", wanted=kept, since=since),
        )

    assert replay(datetime.now(UTC) + timedelta(hours=1)).queued == 0
    assert replay(datetime.now(UTC) - timedelta(hours=1)).queued == 250
    it.wait_for(500)
    assert sorted(it.taken()) == sorted(wanted * 2)


def test_a_replay_takes_no_more_than_a_queue_holds_and_says_where_to_go_on(
    redis_server: Server,
    receiver: Callable[..., Receiver],
    dispatch: Callable[..., Dispatcher],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = receiver(status=410)
    hub = dispatch(redis_server.url, webhook("alarms", it.url()))
    hub.publish(*(event(number) for number in range(100)))
    hub.wait_for_row(lambda row: row["state"] == "disabled")
    monkeypatch.setattr(deliveries, "WAITING_MAX", 50)
    done = asked(
        redis_server.url,
        lambda client: deliveries.replay(
            client, PREFIX, "alarms", wanted=WebhookFilter(), since=datetime.now(UTC) - timedelta(hours=1)
        ),
    )
    assert 0 < done.queued < 50
    assert done.rest_from is not None
    row = hub.wait_for_row(lambda row: row["retrying"] >= done.queued)
    assert row["retrying"] <= 50, "with those that were refused"


def test_a_test_is_delivered_whatever_the_filters_and_never_repeated(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver(status=410)
    hub = dispatch(redis_server.url, webhook("alarms", it.url(), cameras=["none"], min_confidence=0.99), pace=FAST)
    first = asked(redis_server.url, lambda client: deliveries.test(client, PREFIX, "alarms", site="test"))
    it.wait_for(1)
    hub.wait_for_row(lambda row: row["state"] == "disabled")
    it.order(status=500)
    second = asked(redis_server.url, lambda client: deliveries.test(client, PREFIX, "alarms", site="test"))
    it.wait_for(2)
    hub.wait_for_row(lambda row: row["last_error"] == "answered 500")
    it.order(status=200)
    third = asked(redis_server.url, lambda client: deliveries.test(client, PREFIX, "alarms", site="test"))
    it.wait_for(3)
    row = hub.wait_for_row(lambda row: row["last_error"] is None and row["retrying"] == 0)
    assert (row["dead"], row["state"]) == (0, "disabled")
    assert [each.id for each in it.deliveries()] == [first, second, third]
    for each in it.deliveries():
        assert each.event["hub"]["test"] is True
        asyncapi.check("event", each.event)
    assert asked(redis_server.url, lambda client: deliveries.enable(client, PREFIX, "alarms"))
    assert not asked(redis_server.url, lambda client: deliveries.enable(client, PREFIX, "alarms"))
    hub.wait_for_row(lambda row: row["state"] == "active")
    (row,) = asked(redis_server.url, lambda client: deliveries.listing(client, PREFIX, ["alarms", "unknown"]))
    assert row["id"] == "alarms"


def test_what_is_no_event_is_passed_over(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(redis_server.url, webhook("alarms", it.url()))
    with raw(redis_server.url) as client:
        for fields in ({"camera": "lobby"}, {"event": "{}"}, {"camera": "lobby", "event": b"\xff"}, {"a": "b"}):
            client.xadd(f"{PREFIX}:results", fields)
    ids = hub.publish(event(1))
    it.wait_for(1)
    assert it.taken() == ids
    hub.wait_for_row(lambda row: row["pending"] == 0)


def test_news_of_a_webhook_are_published(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver(status=410)
    hub = dispatch(redis_server.url, webhook("alarms", it.url("/with-a-token")))
    with raw(redis_server.url) as client, client.pubsub() as heard:
        heard.subscribe(f"{PREFIX}:events")
        heard.get_message(timeout=10)
        hub.publish(event(1))
        message = heard.get_message(timeout=30)
        news = json.loads(message["data"])
    assert (news["kind"], news["webhook"], news["from"], news["state"]) == (
        "webhook_state",
        "alarms",
        "active",
        "disabled",
    )
    assert "with-a-token" not in json.dumps(news)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    key, own, both = tmp_path / "key.pem", tmp_path / "own.pem", tmp_path / "both.pem"
    command: list[str | Path] = [needs.program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", own], check=True, capture_output=True)
    both.write_text(own.read_text() + key.read_text())
    return both


def test_tls_verifies_the_name(
    debian_redis: Callable[..., DebianRedis],
    receiver: Callable[..., Receiver],
    dispatch: Callable[..., Dispatcher],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = receiver(certificate=certificate, body="x" * 200_000, status=200)
    server = debian_redis()
    stranger = dispatch(server.url, webhook("stranger", it.url("/stranger", "localhost")), pace=FAST)
    stranger.publish(event(1))
    row = stranger.wait_for_row(lambda row: row["failed"] > 0)
    assert "CERTIFICATE_VERIFY_FAILED" in row["last_error"]
    stranger.kill()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    hub = dispatch(
        server.url, webhook("named", it.url("/named", "localhost")), webhook("number", it.url("/number")), pace=FAST
    )
    ids = hub.publish(*(event(number, ("x" * 50_000, 0.9)) for number in range(20)))
    it.wait_for(20, "/named")
    assert sorted(it.taken("/named")) == sorted(ids)
    row = hub.wait_for_row(lambda row: row["failed"] > 0, "number")
    assert "CERTIFICATE_VERIFY_FAILED" in row["last_error"], "127.0.0.1 is not what it was made out for"
    assert it.deliveries("/number") == []
