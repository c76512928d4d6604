"""Messages and entries in Redis that no hub wrote. A hostile writer with full access sends them to real processes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
import redis

from nvision_hub.broker import webhook_admin
from nvision_hub.broker.client import connect
from nvision_hub.broker.webhook_queue import NOT_A_DELIVERY
from tests.integration.test_gateway_live import receive_until, viewer
from tests.support import clips
from tests.support.dispatching import PREFIX, event, webhook
from tests.support.patience import PATIENCE_S
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.dispatching import Dispatcher
    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.receiver import Receiver
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis

pytestmark = [pytest.mark.fault, pytest.mark.long]

SMALL: Final = clips.ClipSpec(codec="mjpeg", width=160, height=120, fps=50, seconds=2)
BOX: Final = {"left": 0, "top": 0, "right": 1, "bottom": 1}


def result(**changes: Any) -> bytes:
    return json.dumps({"detected_objects": [], "hub": {"id": "x", "camera": "a"}, **changes}).encode()


def nested(depth: int) -> bytes:
    return result(detected_objects=[]).replace(b"[]", b"[" * depth + b"]" * depth)


NOT_RESULTS: Final = [
    b"[1,2]",
    b"",
    b"null",
    b"1e9999",
    b'"text"',
    b"{}",
    b"\xff\xfe",
    b"{" * 100_000,
    b"[" * 980 + b"]" * 980,
    *(nested(depth) for depth in range(900, 1000, 4)),
    b'{"hub": 1}',
    b'{"hub": {"id": 1}}',
    b'{"hub": {"id": "\\ud800"}}',
    b'{"hub": {"id": "a", "labels": [1]}}',
    b'{"hub": {"id": "a"}, "pad": ' + b"9" * 5000 + b"}",
    b'{"hub": {"id": "a"}, "pad": 1e9999}',
    b'{"hub": {"id": "a"}, "pad": NaN}',
    result(detected_objects={}),
    result(detected_objects=[1]),
    result(detected_objects=[{"name": 1, "confidence": 1, "bounding_box": BOX}]),
    result(detected_objects=[{"name": "a", "confidence": "1", "bounding_box": BOX}]),
    result(detected_objects=[{"name": "a", "confidence": float("nan"), "bounding_box": BOX}]),
    result(detected_objects=[{"name": "a", "confidence": 1, "bounding_box": [1]}]),
]
NOT_HUB_EVENTS: Final = [
    b"[1,2]",
    b"1",
    b"{}",
    b'{"kind": 1}',
    b'{"kind": "loss", "camera": {}}',
    b'{"kind": "loss", "count": 1e9999}',
    b"[" * 990 + b"]" * 990,
]
NOT_DELIVERIES: Final = [
    b"",
    b"[1,2]",
    b"{}\n{}",
    b"\xff",
    b'{"attempts": "1"}\n{}',
    b'{"attempts": 1.5}\n{}',
    b'{"attempts": -1}\n{}',
    b'{"attempts": 1e999}\n{}',
    b'{"attempts": 99999999999999999999}\n{}',
    b'{"attempts": 0, "once": "no"}\n{}',
    b'{"attempts": 0, "entry": "1-0"}\n{}',
    b'{"attempts": 0, "body": "x"}\n{}',
    b"[" * 100_000 + b"\n{}",
    b'{"attempts": 0}\n',
    b'{"attempts": 0}\n{}',
    b'{"attempts": 0}\nnot an event',
    b'{"attempts": 0}\n[1,2]',
    b'{"attempts": 0, "once": true}\n{"hub": {"id": 1}}',
    b'{"attempts": 0}\n' + nested(990),
]
IDS: Final = [b"\xff\xfe", b"a\r\nx-evil: 1", b"a.b", b"", b"x" * 1000, "ä".encode()]


def rejected_by_gateway(url: str) -> float:
    """Return the number of messages that the gateway has rejected, as its metrics show it."""
    series = 'nvision_hub_redis_entries_rejected_total{site="test",source="channel"} '
    lines = httpx2.get(f"{url}/metrics", trust_env=False).text.splitlines()
    return sum(float(line.removeprefix(series)) for line in lines if line.startswith(series))


def test_malformed_messages_end_neither_gateway_nor_view(
    http_camera: Callable[..., HttpCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    camera = http_camera(spec=SMALL)
    hub = start_hub([{"id": "a", "url": camera.url(), "fps": 5}], recorder(), gateway=True)
    hub.wait_for_results("a", 3)
    url = hub.gateway()
    # No worker publishes results of `ghost`, so the viewer receives exactly what this test publishes.
    watch = {"token": None, "watch": ["a", "ghost"], "width": 320, "fps": 5}
    with hub.redis() as broker, viewer(url, watch) as socket:
        receive_until(socket, lambda message: isinstance(message, dict) and message["kind"] == "result", PATIENCE_S)
        for data in NOT_RESULTS:
            for camera_id in ("a", "ghost"):
                assert broker.publish(f"nvision:results:{camera_id}", data) == 1
                broker.publish(f"nvision:previews:{camera_id}", data)
        for data in NOT_HUB_EVENTS:
            broker.publish("nvision:events", data)
        broker.publish("nvision:results:ghost", result(hub={"id": "last", "camera": "ghost"}))
        seen: list[Any] = []

        def is_last(message: Any) -> bool:
            if isinstance(message, dict) and message["kind"] in {"result", "news"}:
                seen.append(message["event"])
            return bool(seen) and seen[-1].get("hub", {}).get("camera") == "ghost"

        receive_until(socket, is_last, PATIENCE_S)
        assert all(each.get("frame_id") or each.get("kind") == "camera_state" for each in seen[:-1]), seen
        published = hub.camera("a").total("results_published_total")
        hub.wait_for_results("a", int(published) + 5)
    expected = 2 * 2 * len(NOT_RESULTS) + len(NOT_HUB_EVENTS)
    hub.wait_until(lambda: rejected_by_gateway(url) >= expected)  # the counter arrives with the next status report
    count = rejected_by_gateway(url)
    assert count == expected
    assert not any(hub.restarts().values()), hub.log()
    measured(
        57,
        "messages on Redis channels that are not from a hub",
        injected=f"{len(NOT_RESULTS)} messages on each channel of results and previews, {len(NOT_HUB_EVENTS)} on the "
        "channel of events; one viewer",
        target="no process ends; the viewer receives none of them",
        measured=f"{count:.0f} messages rejected and counted; the viewer received none; no process restarted",
    )


# 1e9999 is valid JSON. Two webhooks read it, and the one without a filter delivers it.
NOT_REJECTED: Final = 2


def test_malformed_entries_neither_end_nor_stop_the_webhooks(
    debian_redis: Callable[..., DebianRedis], receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it, other = receiver(), receiver()
    hooks = webhook("alarms", it.url(), classes=["person"]), webhook("archive", other.url())
    hub = dispatch(debian_redis().url, *hooks)
    pid = hub.child.pid if hub.child is not None else None
    queue = f"{PREFIX}:webhooks:alarms"
    with redis.Redis.from_url(hub.url) as client:
        for data in NOT_RESULTS:
            client.xadd(f"{PREFIX}:results", {"camera": "lobby", "event": data})
        client.xadd(f"{PREFIX}:results", {"other": "x"})
        client.xadd(f"{PREFIX}:results", {"camera": b"\xff", "event": b"[1,2]"})
        for number, data in enumerate(NOT_DELIVERIES):
            client.hset(f"{queue}:waiting", f"bad-{number}", data)
            client.zadd(f"{queue}:due", {f"bad-{number}": number % 3})
        for key in IDS:
            client.hset(f"{queue}:waiting", key, b'{"attempts": 0, "once": false}\n' + result())
            client.zadd(f"{queue}:due", {key: 1})
        client.zadd(f"{queue}:due", {"no-body": 1, "at the end of time": float("inf"), "before": float("-inf")})
        client.hset(f"{queue}:state", mapping={"row": "[1,2]", "unknown": "\x00"})
        good = hub.publish(event(1, ("person", 0.9)), event(2, ("person", 0.8)))
        it.wait_for(2)
        other.wait_for(3)
        assert {each.id for each in it.deliveries()} == set(good)
        assert set(good) <= {each.id for each in other.deliveries()}
        bad = len(NOT_DELIVERIES) + len(IDS) + 2
        rejected = 2 * (len(NOT_RESULTS) + 2) - NOT_REJECTED
        hub.wait_for_row(lambda _row: hub.counted("redis_entries_rejected_total", source="results") == rejected)
        hub.wait_for_row(lambda row: row["retrying"] == 1)  # the one at the end of time
        letters = asyncio.run(dead_letters(hub.url))
        assert len([each for each in letters if each["reason"] == NOT_A_DELIVERY]) == bad
        assert hub.counted("redis_entries_rejected_total", source="webhook_queue") == bad
        # No replay delivers the rejected entries.
        assert asyncio.run(replay_dead(hub.url)).queued == 0
    assert (hub.child.pid if hub.child is not None else None) == pid
    measured(
        57,
        "stream and queue entries in Redis that are not from a hub",
        injected=f"{len(NOT_RESULTS) + 2} entries in the stream, {bad} in the queue of one of two webhooks",
        target="both webhooks deliver; bad entries are set aside and counted",
        measured=f"all results delivered; {rejected} reads of the stream rejected, {bad} entries of the queue moved to "
        "the dead letters; the dispatcher kept running",
    )


def test_a_malformed_row_of_an_earlier_process_is_ignored(
    debian_redis: Callable[..., DebianRedis], receiver: Callable[..., Receiver], dispatch: Callable[..., Dispatcher]
) -> None:
    it, server = receiver(), debian_redis()
    rows = ['{"delivered": "1"}', "[1,2]", '{"delivered": 1e999, "failed": 0, "dead": 0}', "[" * 100_000]
    rows.append('{"delivered": 1, "failed": 0, "dead": 0, "last_error": {"a": 1}, "last_delivery_at": []}')
    with redis.Redis.from_url(server.url) as client:
        for number, row in enumerate(rows):
            client.hset(f"{PREFIX}:webhooks:hook{number}:state", "row", row)
    hub = dispatch(server.url, *(webhook(f"hook{number}", it.url()) for number in range(len(rows))))
    hub.publish(event(1))
    it.wait_for(len(rows))


def test_dead_letters_with_impossible_times_are_listed(debian_redis: Callable[..., DebianRedis]) -> None:
    server = debian_redis()
    with redis.Redis.from_url(server.url) as client:
        client.xadd(
            f"{PREFIX}:webhooks:dead", {"webhook": "alarms", "attempts": "9" * 5000, "event": "[" * 10_000}, id="1-1"
        )
        client.xadd(f"{PREFIX}:webhooks:dead", {"webhook": "alarms"}, id="9999999999999999999-1")
        client.xadd(f"{PREFIX}:results", {"camera": "lobby", "event": b"[1,2]"}, id="9999999999999999999-1")
    letters = asyncio.run(dead_letters(server.url))
    assert [each["attempts"] for each in letters] == [0, 0]
    assert [each["event"] for each in letters] == [None, None]
    assert asyncio.run(replay_dead(server.url)).queued == 0


async def dead_letters(url: str) -> list[dict[str, Any]]:
    client = connect(url)
    try:
        return await webhook_admin.dead_letters(client, PREFIX)
    finally:
        await client.aclose()


async def replay_dead(url: str) -> webhook_admin.ReplayResult:
    client = connect(url)
    try:
        return await webhook_admin.replay_dead(client, PREFIX, "alarms")
    finally:
        await client.aclose()
