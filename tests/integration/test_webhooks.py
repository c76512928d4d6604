"""Webhooks from the stream to an endpoint, with a real Redis and a real dispatcher."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis
from standardwebhooks import Webhook as Verifier

from nvision_hub.broker import webhook_admin
from nvision_hub.broker.client import connect
from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.tracking.changes import Change, ChangeType
from nvision_hub.tracking.cloud_events import cloud_event
from tests.support import asyncapi, needs, track_events
from tests.support.dispatching import PREFIX, event, webhook
from tests.support.patience import PATIENCE_S, is_on_time
from tests.support.receiver import OTHER_SECRET, SECRET
from workers.webhooks.settings import DeliveryLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.support.dispatching import Dispatcher
    from tests.support.receiver import Receiver
    from tests.support.redis_server import DebianRedis, Server

pytestmark = pytest.mark.long


FAST = DeliveryLimits(schedule_s=(0, 0.05, 0.1), timeout_s=PATIENCE_S)


def call_admin(url: str, function: Callable[[Any], Awaitable[Any]]) -> Any:
    """Call a function of `webhook_admin` as the CLI does. Return its result."""

    async def call() -> Any:
        client = connect(url)
        try:
            return await function(client)
        finally:
            await client.aclose()

    return asyncio.run(call())


def raw(url: str) -> redis.Redis:
    return redis.Redis.from_url(url)


def test_matching_results_arrive_signed_and_others_are_acknowledged(
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
    assert sorted(it.accepted("/all")) == sorted(ids)
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
    assert it.connections() <= 32, "connections are reused"


def test_events_of_tracks_arrive_as_cloud_events(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    """They use the same queue as results: retries, dead letters, replays and signatures."""
    it = receiver()
    it.set_behavior("/zones", status=500)
    hub = dispatch(
        redis_server.url,
        webhook("zones", it.url("/zones"), events=["zone.entered", "track.ended"], zones=["bay"], classes=["person"]),
        webhook("both", it.url("/both"), events=["result", "track.started"]),
        webhook("recent", it.url("/recent"), events=["track.started", "track.ended"], max_age=3600),
        limits=FAST,
    )
    bay, _other_zone, _other_class, _other_type, started = hub.publish_track_events(
        zone_event("bay"),
        zone_event("yard"),
        zone_event("bay", class_name="car"),
        zone_event("bay", ChangeType.ZONE_LEFT),
        track_events.open_event(),
    )
    (result,) = hub.publish(event(1))
    it.wait_for(2, "/both")
    assert sorted(it.accepted("/both")) == sorted([started, result])
    row = hub.wait_for_row(lambda row: row["dead"] == 1 and row["pending"] == row["retrying"] == 0, "zones")
    assert row["failed"] == 3
    hub.wait_for(lambda _: hub.counted("webhook_skipped_total", webhook="recent", reason="max_age") == 1)
    wanted = WebhookFilter.of({"events": ["track.started"]})
    call_admin(
        redis_server.url,
        lambda client: webhook_admin.replay(
            client, PREFIX, "recent", wanted=wanted, since=datetime.now(UTC) - timedelta(hours=1)
        ),
    )
    it.wait_until(lambda: it.accepted("/recent") == [started])
    with raw(redis_server.url) as client:
        client.xtrim(f"{PREFIX}:tracks", maxlen=0, approximate=False)
    it.set_behavior("/zones", status=204)
    done = call_admin(redis_server.url, lambda client: webhook_admin.replay_dead(client, PREFIX, "zones"))
    assert done.queued == 1
    it.wait_until(lambda: it.accepted("/zones") == [bay])
    for each in it.deliveries():
        assert Verifier(SECRET).verify(each.body, each.headers) == each.event
        expected = "application/json" if each.id == result else "application/cloudevents+json"
        assert each.headers["content-type"] == expected
        if each.id != result:
            asyncapi.check("trackEvent", each.event)
            assert each.event["id"] == each.id
    wanted = WebhookFilter.of({"events": ["zone.entered", "track.ended"]})
    tested = call_admin(
        redis_server.url, lambda client: webhook_admin.test(client, PREFIX, "zones", site="test", wanted=wanted)
    )
    it.wait_until(lambda: tested in it.accepted("/zones"))
    asyncapi.check("trackEvent", next(each.event for each in it.deliveries("/zones") if each.id == tested))


def zone_event(
    zone: str, change_type: ChangeType = ChangeType.ZONE_ENTERED, *, class_name: str = "person"
) -> dict[str, Any]:
    track = replace(track_events.STATE, class_name=class_name)
    return cloud_event(Change(type=change_type, at=track_events.NOW, track=track, zone=zone), track_events.ORIGIN)


async def send_test(client: Redis) -> str:
    return await webhook_admin.test(client, PREFIX, "alarms", site="test", wanted=WebhookFilter())


def test_both_secrets_sign_during_a_rotation(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(redis_server.url, webhook("alarms", it.url(), secret=[OTHER_SECRET, SECRET]))
    hub.publish(event(1))
    (delivery,) = it.wait_for(1)
    assert len(delivery.headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER_SECRET):
        Verifier(secret).verify(delivery.body, delivery.headers)


def test_a_new_webhook_begins_with_new_results_and_a_known_one_continues(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(redis_server.url, webhook("first", it.url("/first")))
    early = hub.publish(*(event(number) for number in range(10)))
    it.wait_for(10, "/first")
    assert is_on_time(hub.stop(), 5)
    late = hub.publish(*(event(number) for number in range(10, 20)))
    hub.webhooks = [*hub.webhooks, webhook("second", it.url("/second"))]
    hub.start()
    last = hub.publish(event(20))
    it.wait_for(1, "/second")
    it.wait_for(21, "/first")
    assert set(it.accepted("/first")) == {*early, *late, *last}
    assert not set(it.accepted("/second")) & set(early)
    row = hub.wait_for_row(lambda row: row["delivered"] >= 21, "first")
    assert row["delivered"] == 21, "the count must survive the process"


def test_results_published_during_the_start_are_delivered(
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
    assert sorted(it.accepted("/second")) == sorted([ids[0], ids[2]])
    assert before[0] not in it.accepted("/second")


def test_a_stop_completes_running_deliveries_and_repeats_none(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver(delay_s=0.3)
    hub = dispatch(redis_server.url, webhook("alarms", it.url()))
    ids = hub.publish(*(event(number) for number in range(12)))
    it.wait_for(12)
    assert is_on_time(hub.stop(), 5)
    hub.start()
    hub.wait_for_row(lambda row: row["pending"] == 0)
    assert sorted(it.accepted()) == sorted(ids)


def test_failed_deliveries_wait_in_redis_and_become_dead_letters(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver(status=500)
    hub = dispatch(redis_server.url, webhook("alarms", it.url(), classes=["person"]), limits=FAST)
    (own_id,) = hub.publish(event(1, ("person", 0.9), ("car", 0.9)))
    it.wait_for(1)
    with raw(redis_server.url) as client:
        client.xtrim(f"{PREFIX}:results", maxlen=0, approximate=False)
    row = hub.wait_for_row(lambda row: row["dead"] == 1 and row["retrying"] == 0)
    assert (row["failed"], row["last_error"]) == (3, "answered 500")
    it.wait_for(3)
    assert [each.id for each in it.deliveries()] == [own_id] * 3
    (letter,) = call_admin(redis_server.url, lambda client: webhook_admin.dead_letters(client, PREFIX))
    assert (letter["webhook"], letter["id"], letter["attempts"]) == ("alarms", own_id, 3)
    assert letter["reason"].endswith("answered 500")
    assert [each["name"] for each in letter["event"]["detected_objects"]] == ["person"]
    assert call_admin(redis_server.url, lambda client: webhook_admin.dead_letters(client, PREFIX, "other")) == []
    it.set_behavior(status=204)
    done = call_admin(redis_server.url, lambda client: webhook_admin.replay_dead(client, PREFIX, "alarms"))
    assert (done.queued, done.rest_from) == (1, None)
    it.wait_until(lambda: it.accepted() == [own_id])
    assert call_admin(redis_server.url, lambda client: webhook_admin.dead_letters(client, PREFIX)) == []
    hub.wait_for_row(lambda row: row["retrying"] == 0 and row["last_error"] is None)


def test_a_replay_sends_matching_results_with_the_same_ids(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(redis_server.url, webhook("alarms", it.url(), classes=["person"]))
    ids = hub.publish(*(event(number, ("person" if number % 2 else "car", 0.9)) for number in range(500)))
    wanted = ids[1::2]
    it.wait_for(250)
    kept = WebhookFilter.of({"classes": ["person"]})

    def replay(since: datetime) -> Any:
        return call_admin(
            redis_server.url,
            lambda client: webhook_admin.replay(client, PREFIX, "alarms", wanted=kept, since=since),
        )

    assert replay(datetime.now(UTC) + timedelta(hours=1)).queued == 0
    assert replay(datetime.now(UTC) - timedelta(hours=1)).queued == 250
    it.wait_for(500)
    assert sorted(it.accepted()) == sorted(wanted * 2)


def test_a_replay_is_limited_by_the_queue_and_returns_where_to_continue(
    redis_server: Server,
    receiver: Callable[..., Receiver],
    dispatch: Callable[..., Dispatcher],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = receiver(status=410)
    hub = dispatch(redis_server.url, webhook("alarms", it.url()))
    hub.publish(*(event(number) for number in range(100)))
    hub.wait_for_row(lambda row: row["state"] == "disabled")
    monkeypatch.setattr(webhook_admin, "MAX_WAITING", 50)
    done = call_admin(
        redis_server.url,
        lambda client: webhook_admin.replay(
            client, PREFIX, "alarms", wanted=WebhookFilter(), since=datetime.now(UTC) - timedelta(hours=1)
        ),
    )
    assert 0 < done.queued < 50
    assert done.rest_from is not None
    row = hub.wait_for_row(lambda row: row["retrying"] >= done.queued)
    assert row["retrying"] <= 50, "the limit includes the rejected deliveries"


def test_a_test_event_passes_all_filters_and_is_never_retried(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver(status=410)
    hub = dispatch(redis_server.url, webhook("alarms", it.url(), cameras=["none"], min_confidence=0.99), limits=FAST)
    first = call_admin(redis_server.url, send_test)
    it.wait_for(1)
    hub.wait_for_row(lambda row: row["state"] == "disabled")
    it.set_behavior(status=500)
    second = call_admin(redis_server.url, send_test)
    it.wait_for(2)
    hub.wait_for_row(lambda row: row["last_error"] == "answered 500")
    it.set_behavior(status=200)
    third = call_admin(redis_server.url, send_test)
    it.wait_for(3)
    row = hub.wait_for_row(lambda row: row["last_error"] is None and row["retrying"] == 0)
    assert (row["dead"], row["state"]) == (0, "disabled")
    assert [each.id for each in it.deliveries()] == [first, second, third]
    for each in it.deliveries():
        assert each.event["hub"]["test"] is True
        asyncapi.check("event", each.event)
    assert call_admin(redis_server.url, lambda client: webhook_admin.enable(client, PREFIX, "alarms"))
    assert not call_admin(redis_server.url, lambda client: webhook_admin.enable(client, PREFIX, "alarms"))
    hub.wait_for_row(lambda row: row["state"] == "active")
    with raw(redis_server.url) as client:
        stored: Any = client.hget(f"{PREFIX}:webhooks:alarms:state", "row")
    assert json.loads(stored)["id"] == "alarms"


def test_an_entry_that_is_not_an_event_is_skipped(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver()
    hub = dispatch(redis_server.url, webhook("alarms", it.url()))
    with raw(redis_server.url) as client:
        for fields in ({"camera": "lobby"}, {"event": "{}"}, {"camera": "lobby", "event": b"\xff"}, {"a": "b"}):
            client.xadd(f"{PREFIX}:results", fields)
    ids = hub.publish(event(1))
    it.wait_for(1)
    assert it.accepted() == ids
    hub.wait_for_row(lambda row: row["pending"] == 0)


def test_webhook_events_are_published(
    redis_server: Server, receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it = receiver(status=410)
    hub = dispatch(redis_server.url, webhook("alarms", it.url("/with-a-token")))
    with raw(redis_server.url) as client, client.pubsub() as subscription:
        subscription.subscribe(f"{PREFIX}:events")
        subscription.get_message(timeout=PATIENCE_S)
        hub.publish(event(1))
        message = subscription.get_message(timeout=PATIENCE_S)
        change = json.loads(message["data"])
    assert (change["kind"], change["webhook"], change["from"], change["state"]) == (
        "webhook_state",
        "alarms",
        "active",
        "disabled",
    )
    assert "with-a-token" not in json.dumps(change)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    key, own, both = tmp_path / "key.pem", tmp_path / "own.pem", tmp_path / "both.pem"
    command: list[str | Path] = [needs.program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", own], check=True, capture_output=True)
    both.write_text(own.read_text() + key.read_text())
    return both


def test_tls_verifies_the_host_name(
    debian_redis: Callable[..., DebianRedis],
    receiver: Callable[..., Receiver],
    dispatch: Callable[..., Dispatcher],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = receiver(certificate=certificate, body="x" * 200_000, status=200)
    server = debian_redis()
    unverified = dispatch(server.url, webhook("stranger", it.url("/stranger", "localhost")), limits=FAST)
    unverified.publish(event(1))
    row = unverified.wait_for_row(lambda row: row["failed"] > 0)
    assert "CERTIFICATE_VERIFY_FAILED" in row["last_error"]
    unverified.kill()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    hub = dispatch(
        server.url, webhook("named", it.url("/named", "localhost")), webhook("number", it.url("/number")), limits=FAST
    )
    ids = hub.publish(*(event(number, ("x" * 50_000, 0.9)) for number in range(20)))
    it.wait_for(20, "/named")
    assert sorted(it.accepted("/named")) == sorted(ids)
    row = hub.wait_for_row(lambda row: row["failed"] > 0, "number")
    assert "CERTIFICATE_VERIFY_FAILED" in row["last_error"], "the certificate is not valid for 127.0.0.1"
    assert it.deliveries("/number") == []
