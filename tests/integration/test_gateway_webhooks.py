"""Routes for webhooks: operations on the deliveries in Redis, and the dispatcher's last report."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from nvision_hub.runtime.messages import WebhooksFacts
from nvision_hub.runtime.status import Status, WebhooksInfo, WebhookSummary

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.gateway import SupervisedGateway

ALARMS: Final = {"id": "alarms", "url": "https://example.com/***", "cameras": None, "classes": ["person"]}
REPORTED: Final = WebhookSummary(
    id="alarms",
    url="https://example.com/***",
    state="open",
    pending=3,
    retrying=2,
    dead=1,
    delivered=40,
    failed=5,
    last_error="HTTP 500",
    last_delivery_at="2026-11-22T14:00:00.000Z",
    p50_s=0.02,
    p99_s=0.4,
)


def result(number: int, name: str) -> dict[str, str]:
    found = [
        {"name": name, "parent": "", "confidence": 0.9, "bounding_box": {"left": 0, "top": 0, "right": 9, "bottom": 9}}
    ]
    event: dict[str, Any] = {"detected_objects": found, "hub": {"id": f"id-{number}", "camera": "lobby"}}
    return {"camera": "lobby", "event": json.dumps(event)}


def test_deliveries_are_listed_tested_enabled_and_replayed(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    one.set_process("webhooks", pid=7, facts=WebhooksFacts(webhooks=(ALARMS, {**ALARMS, "id": "new"})))
    one.report("webhooks", Status(pid=7, state="running", info=WebhooksInfo(webhooks=(REPORTED,))))
    with one.client() as client, redis.Redis.from_url(one.settings.stream.url, decode_responses=True) as broker:
        listed = client.get("/api/v1/webhooks").json()["webhooks"]
        assert listed[0] == asdict(REPORTED)
        assert (listed[1]["id"], listed[1]["state"], listed[1]["delivered"]) == ("new", "active", 0)
        tested = client.post("/api/v1/webhooks/alarms/test")
        assert tested.status_code == 202
        assert tested.json()["id"]
        assert client.post("/api/v1/webhooks/alarms/enable").json() == asdict(REPORTED)
        for number, name in enumerate(["person", "car", "person"]):
            broker.xadd("nvision:results", dict(result(number, name)))
        replay = client.post("/api/v1/webhooks/replay", json={"webhook": "alarms", "since": "2020-01-01T00:00:00Z"})
        assert (replay.status_code, replay.json()) == (202, {"queued": 2, "rest_from": None})
        letter = {
            "webhook": "alarms",
            "id": "id-9",
            "reason": "gave up",
            "attempts": "10",
            "event": '{"hub": {"id": "id-9"}}',
        }
        broker.xadd("nvision:webhooks:dead", dict(letter))
        (dead,) = client.get("/api/v1/webhooks/dead-letters?webhook=alarms&limit=5").json()["dead_letters"]
        assert (dead["id"], dead["attempts"], dead["event"]) == ("id-9", 10, {"hub": {"id": "id-9"}})
        assert client.get("/api/v1/webhooks/dead-letters?webhook=new").json() == {"dead_letters": []}
        revived = client.post("/api/v1/webhooks/replay", json={"webhook": "alarms", "dead": True})
        assert revived.json()["queued"] == 1
        assert broker.xlen("nvision:webhooks:dead") == 0


@pytest.mark.parametrize(
    "event",
    [b'{"a": "\\ud800"}', b'{"a": NaN}', b'{"a": 1e999}', b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}"],
    ids=["surrogate", "NaN", "infinite", "nested"],
)
def test_an_unreadable_dead_letter_does_not_hide_the_others(
    start_gateway: Callable[..., SupervisedGateway], event: bytes
) -> None:
    one = start_gateway()
    good = b'{"hub": {"id": "id-1"}}'
    with one.client() as client, redis.Redis.from_url(one.settings.stream.url) as broker:
        for each in (good, event):
            broker.xadd("nvision:webhooks:dead", {"webhook": "alarms", "id": "id", "event": each})
        letters = client.get("/api/v1/webhooks/dead-letters").json()["dead_letters"]
    assert [letter["event"] for letter in letters] == [None, {"hub": {"id": "id-1"}}]


def test_errors_are_problem_documents(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    one.set_process("webhooks", pid=7, facts=WebhooksFacts(webhooks=(ALARMS,)))
    with one.client() as client:
        for path in ("unknown/test", "unknown/enable"):
            assert client.post(f"/api/v1/webhooks/{path}").status_code == 404
        for body, expected in (
            ({"webhook": "unknown", "dead": True}, 404),
            ({"webhook": "alarms"}, 422),
            ({"webhook": "alarms", "dead": True, "since": "2026-11-22T14:00:00Z"}, 422),
            ({"webhook": "alarms", "since": "yesterday"}, 422),
            ({"webhook": "alarms", "since": "2026-11-22T14:00:00"}, 422),
            ({"webhook": "alarms", "dead": True, "more": 1}, 422),
        ):
            assert client.post("/api/v1/webhooks/replay", json=body).status_code == expected, body
        assert client.get("/api/v1/webhooks/dead-letters?limit=0").status_code == 422
